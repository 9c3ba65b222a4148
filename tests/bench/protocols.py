"""Open Inference Protocol beside /predict: one head, 16 clients, bodies as tritonclient writes them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from bench import stores
from bench.figures import Figures
from bench.measure import closed_loop
from process import serving
from tritonclient.http import InferenceServerClient, InferInput

from service.console import track

CLIENTS = 16
SECONDS = 6  # shorter ones differ by how many batches of 8 end within them
LEAST = {"BYTES (JPEG)": 0.95, "UINT8": 1.0}


def measure(figures: Figures, folder: Path, rounds: int, body: Path) -> None:
    """Files against the same files, and pixels, which nobody has to decode, against files."""
    file = np.array([body.read_bytes()], object)
    pixels = np.random.default_rng(0).integers(0, 256, (1, stores.SIDE, stores.SIDE, 3), np.uint8)
    bodies = {
        "BYTES (JPEG)": _written(body.with_name("files"), "image_bytes", "BYTES", file),
        "UINT8": _written(body.with_name("pixels"), "pixels", "UINT8", pixels),
    }
    with serving(stores.demo(folder), "--log-level", "warning") as server:
        infer = f"{server.url}/v2/models/gap/infer"
        asked = {kind: (infer, *written) for kind, written in bodies.items()}
        asked["/predict"] = (f"{server.url}/predict?head=gap", body, {})
        for _ in track(range(rounds), rounds, "Comparing protocols"):
            rates = _rates(asked)
            for kind, least in LEAST.items():
                name = f"/v2, binary {kind} / /predict with JPEG, throughput, {CLIENTS} clients"
                figures.add(rates[kind] / rates["/predict"], name, at_least=least)


def _rates(asked: Mapping[str, tuple[str, Path, Mapping[str, str]]]) -> dict[str, float]:
    """Answers a second, there and back again, so that a drift within the round cancels."""
    rates = dict.fromkeys(asked, 0.0)
    for kind in (*asked, *reversed(asked)):
        url, path, headers = asked[kind]
        rates[kind] += closed_loop([url], CLIENTS, SECONDS, path, **headers).per_second() / 2
    return rates


def _written(path: Path, name: str, datatype: str, array: np.ndarray) -> tuple[Path, Mapping[str, str]]:
    """The body of a request, in a file, and its headers."""
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    content, json_size = InferenceServerClient.generate_request_body([tensor])
    path.write_bytes(content)
    return path, {"Inference-Header-Content-Length": str(json_size)}
