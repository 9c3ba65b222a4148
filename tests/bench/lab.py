"""The lab's figures: extraction, a second run, memory by the number of pictures, and int8."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bench import picture, stores
from bench.figures import Figures
from bench.measure import InProcess, report

from service.lab.backbones.demo import jpeg
from service.lab.backbones.demo import picture as disc
from service.lab.data.features import Decoded, FeatureCache
from service.lab.data.photographs import Photograph
from service.serving.host import available_cores
from service.store.layout import Store

LABELS = ("blue-top-left", "green-top-left", "red-top-left", "yellow-top-left")
PICTURES = 160
FEW, MANY = 400, 4000
RUNS = 3


def measure(figures: Figures, folder: Path, rounds: int) -> None:
    """All of them, in a folder that goes away."""
    with tempfile.TemporaryDirectory() as scratch:
        extraction(figures, stores.thousand(folder), Path(scratch), rounds)
        training(figures, Path(scratch))
        int8(figures, stores.demo(folder), Path(scratch))


def extraction(figures: Figures, store: Store, scratch: Path, rounds: int) -> None:
    """Files to features on disk, against the engine's rate on pixels in memory."""
    alone = InProcess(store, "gap")
    photographs = []
    for number in range(PICTURES):
        path = scratch / f"{number}.jpg"
        path.write_bytes(picture.jpeg(number))
        photographs.append(Photograph(path, f"{number:064x}", 0))
    decoded = Decoded(store.read_card("gap", 1).input, available_cores())
    for number in range(rounds):
        rate = 8e3 / alone.latencies_ms(8, 4).mean()
        cache = FeatureCache(scratch / "features", str(number), (7, 7, 2048), 10**12)
        started = time.perf_counter()
        for _ in cache.extract(alone.backbone, decoded, photographs):
            pass
        seconds = time.perf_counter() - started
        figures.add(
            PICTURES / seconds / rate,
            "feature extraction, images/s / engine at batch 8",
            at_least=0.85,
        )
        shutil.rmtree(cache.root)


def training(figures: Figures, scratch: Path) -> None:
    """The command on few and many pictures; and again on the few, up to its first training."""
    peaks_mb = {}
    for count in (FEW, MANY):
        folder = photographs(scratch / str(count), count)
        peaks_mb[count] = _train(folder, scratch, until="")[1]
        if count == FEW:
            for _ in range(RUNS):
                seconds, _ = _train(folder, scratch, until="Training")
                figures.add(
                    seconds, f"a second train on the same {FEW} pictures, start to training", "s", 3
                )
    name = f"peak memory of train, {MANY} pictures less {FEW}"
    figures.add(peaks_mb[MANY] - peaks_mb[FEW], name, "MB", 200)


def int8(figures: Figures, demo: Store, scratch: Path) -> None:
    """The demo's GAP head and its int8 version, as `resnet-heads benchmark` measures them."""
    store = Store(scratch / "int8", scratch / "cache")
    shutil.copytree(demo.root, store.root)
    folder = photographs(scratch / "calibration", 160)
    stores.quiet("quantize", "gap", "--images", folder, "--max-drop", "100", store=store)
    shutil.rmtree(store.root / "flatten")
    [ratio] = [ratio for ratio in report(store, 40)["ratios"] if ratio["batch_size"] == 1]
    fast = ratio["ratio"] if ratio["to_head"] == "gap-int8" else 1 / ratio["ratio"]
    figures.add(fast, "float32 / int8, GAP, batch 1, latency", at_least=3.4)


def _train(folder: Path, scratch: Path, until: str) -> tuple[float, float]:
    """Seconds until a line of stderr starts with `until`, where it is then ended; peak memory in MB."""
    command = ["train", folder, "--head", "gap", "--weights", "random", "--seeds", "1"]
    command += ["--store-dir", scratch / "trained"]
    environment = os.environ | {"RESNET_HEADS_CACHE_DIR": str(scratch / "cache")}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "service", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process.stderr:
        for line in process.stderr:
            if until and line.startswith(until):
                process.kill()
                break
    seconds = time.perf_counter() - started
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert until or process.returncode == 0, "train failed"
    return seconds, 1024 * usage.ru_maxrss / 1e6


def photographs(root: str | Path, count: int, names: Sequence[str] = LABELS) -> Path:
    """Pictures of discs, as many of each class, in folders of these names."""
    rng = np.random.default_rng(count)
    for label, name in zip(LABELS, names, strict=True):
        folder = Path(root) / name
        folder.mkdir(parents=True)
        for number in range(count // len(LABELS)):
            (folder / f"{number}.jpg").write_bytes(jpeg(disc(label, rng)))
    return Path(root)
