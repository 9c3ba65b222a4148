"""What looking inside costs beside predicting: /explain and /shift, one client."""

from pathlib import Path

import numpy as np
from bench import stores
from bench.figures import Figures
from bench.measure import InProcess, closed_loop
from process import serving

from service.console import track
from service.serving.explain.shift import GRID

HEADS = ("gap", "flatten")


def measure(figures: Figures, folder: Path, rounds: int, body: Path) -> None:
    """On the demo store, and on a pair of heads of 1000 classes that share as well."""
    demo, thousand = stores.demo(folder), stores.pair(folder, 1000)
    alone = InProcess(demo, "gap")
    quiet = ("--log-level", "warning")
    with serving(demo, *quiet) as small, serving(thousand, *quiet) as large:
        for _ in track(range(rounds), rounds, "Looking"):
            for classes, url in ((16, small.url), (1000, large.url)):
                for head in HEADS:
                    explained(figures, f"{head}, {classes} classes", f"{url}/{{}}?head={head}", body)
            image_ms = np.median(alone.latencies_ms(8, 2)) / 8
            shifted = closed_loop([f"{small.url}/shift?head=gap"], 1, 4, body).p(50)
            name = (
                f"/shift by {len(GRID)} offsets, gap, p50 / ({len(GRID)} x engine at batch 8, an image)"
            )
            figures.add(shifted / (len(GRID) * image_ms), name, at_most=1.2)


def explained(figures: Figures, what: str, url: str, body: Path) -> None:
    """The same head and picture, asked in turns."""
    predicted, looked = (
        closed_loop([url.format(route)], 1, 2, body).p(50) for route in ("predict", "explain")
    )
    figures.add(looked / predicted, f"/explain / /predict, {what}, p50", at_most=1.3)
