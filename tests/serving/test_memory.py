import os
import subprocess
import sys

import pytest
from children import python
from process import MODULES

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
