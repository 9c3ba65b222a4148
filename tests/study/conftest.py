"""A store of heads without model code, and what measures it."""

import pytest
from stored import empty

from service.benchmark.bench import Bench


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(empty(tmp_path), threads=2)
