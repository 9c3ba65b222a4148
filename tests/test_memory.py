"""A server's memory does not grow with the requests it has answered."""

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import httpx
import numpy as np
import pytest
from image_files import encoded
from PIL import Image
from process import resident_mb, serving

pytestmark = pytest.mark.slow

FIRST, THEN = 200, 2000
ALLOWED_MB = 20
CLIENTS = 4
LEAKY = [sys.executable, str(Path(__file__).with_name("leaky.py"))]
SIZES = [(64, 64), (33, 200), (320, 240), (640, 480), (1600, 1200)]


def requests(seed: int = 3) -> list[list[tuple[str, bytes]]]:
    """Bodies of one to eight pictures, of several sizes and formats; some broken."""
    rng, choose = np.random.default_rng(seed), random.Random(seed)
    pictures = []
    for width, height in SIZES:
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        for name in ("JPEG", "PNG", "WEBP"):
            pictures.append(encoded(picture, name))
    small, counts = pictures[:9], [1] * 8 + [2] * 4 + [3] * 2 + [5, 8]
    bodies = [[choose.choice(small) for _ in range(count)] for count in counts]
    bodies += [[picture] for picture in pictures[9:]]
    bodies += [[pictures[0], pictures[1][:90]], [b"nothing"]]
    return [[("file", picture) for picture in body] for body in bodies]


def send(client: httpx.Client, numbered: tuple[int, list[tuple[str, bytes]]]) -> int:
    number, files = numbered
    path = ("/predict?head=gap", "/predict?head=flatten", "/compare")[number % 3]
    return client.post(path, files=files).status_code


def growth_mb(server) -> float:
    """How much the server grows by 2,000 requests, once it has answered 200."""
    with httpx.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(CLIENTS) as pool:
        numbered = enumerate(cycle(requests()))
        statuses = set(pool.map(lambda n: send(client, n), islice(numbered, FIRST)))
        before = resident_mb(server)
        statuses |= set(pool.map(lambda n: send(client, n), islice(numbered, THEN)))
        assert statuses == {200, 422}
        return resident_mb(server) - before


def test_2000_requests_of_mixed_sizes_and_batch_sizes_cost_no_memory(small_store):
    with serving(small_store, "--log-level", "warning") as server:
        assert growth_mb(server) <= ALLOWED_MB


def test_a_server_that_keeps_16_kb_of_each_request_is_caught(small_store):
    with serving(small_store, command=[*LEAKY, str(small_store.root)]) as server:
        assert growth_mb(server) > ALLOWED_MB
