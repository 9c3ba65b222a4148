"""A store of heads without model code, and what measures it."""

import pytest

from service.benchmark.bench import Bench
from service.store.layout import Store


@pytest.fixture
def bench(tmp_path) -> Bench:
    root = tmp_path / "store"
    root.mkdir()
    return Bench(Store(root, tmp_path / "cache"), threads=2)
