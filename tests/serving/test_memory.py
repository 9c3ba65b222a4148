import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from children import python
from process import MODULES

from service.serving.engines.openvino import WEIGHTS, OpenVinoEngine

# many small blocks, all freed but the last, which keeps the heap from shrinking by itself
FREED = """
from process import resident_mb
from service.serving.host import give_back

blocks = [bytearray(4000) for _ in range(20_000)]
del blocks[:-1]
before = resident_mb()
give_back()
print(before - resident_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc that keeps freed memory")
def test_freed_memory_goes_back_to_the_system():
    told = subprocess.run(
        python(FREED), env=os.environ | MODULES, capture_output=True, timeout=60, check=True
    )
    assert float(told.stdout) > 60


def resident_kb(file: Path) -> int:
    """How much of a mapped file is in this process's memory."""
    kb, is_mapped = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            is_mapped = line.endswith(str(file))
        elif is_mapped and line.startswith("Rss:"):
            kb += int(line.split()[1])
    return kb


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that tells of its pages")
def test_weights_leave_memory_once_the_engine_has_copied_them(small_store):
    card, engine = small_store.card("flatten", 1), OpenVinoEngine(1)
    batch = np.random.default_rng(6).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    for folder, opened in (
        (small_store.backbone_of(card, "openvino"), engine.open),
        (small_store.head_of(card, "openvino"), engine.open_head),
    ):
        network, weights = opened(folder), (folder / WEIGHTS).resolve()
        before = resident_kb(weights)
        answer = network(batch).copy()
        assert resident_kb(weights) < before / 10
        np.testing.assert_array_equal(network(batch), answer)
        batch = answer
