"""Ten times the rate that a real ResNet50 at 224x224 can serve, open loop. Figures: `make bench`."""

import sys
from pathlib import Path

import pytest
from bench import picture, stores
from fleet.overload import mixed, overload, peak, returning, share
from fleet.replicas import replicas

from service.serving.capacity import MAX_RETRY_S

pytestmark = pytest.mark.fleet

SECONDS = 60
DEADLINE_S = 10


@pytest.fixture(scope="module")
def store():
    return stores.demo(Path(sys.prefix))


@pytest.fixture
def body(tmp_path):
    file = tmp_path / "picture.jpg"
    file.write_bytes(picture.jpeg())
    return file


def test_a_flood_is_refused_and_the_rest_is_served(store, body, ledger):
    with replicas(store, 1, cores=True) as (server,):
        found = overload(server, body, SECONDS)
    remark = f"goodput {found.goodput_per_s / found.peak_per_s:.2f} of peak"
    ledger.add(found.flood.statuses(), remark)
    statuses = found.flood.statuses()
    assert found.flood.failed() == []
    assert found.goodput_per_s >= 0.75 * found.peak_per_s
    assert found.accepted_p99_s < DEADLINE_S
    assert 1 <= found.longest_retry_s <= MAX_RETRY_S
    assert found.alive_p99_s < 0.1
    assert found.grown_mb < 100
    assert found.after_s < 2 * found.before_s + 0.1
    lone = found.counted[0] - statuses[200]
    assert found.counted[1] == statuses[429], "not every refusal is accounted for"
    assert 0 < lone < 100, "only those of the lone client come on top"


def test_who_is_refused_at_twice_the_peak_and_comes_back_as_told_is_served_soon_after_it(
    store, body, ledger
):
    with replicas(store, 1, cores=True) as (server,):
        rate = 2 * peak(f"{server.url}/predict", body)
        flood = returning(server, body, rate, SECONDS / 2, obey_s=SECONDS)
    ledger.add(flood.statuses(), f"{flood.served():.1%} of the refused were served")
    assert flood.failed() == []
    assert flood.longest_retry_s() <= MAX_RETRY_S
    assert flood.served() >= 0.9


@pytest.mark.parametrize("times", [2, 10])
def test_requests_of_32_images_are_served_about_as_often_as_single_ones(store, body, ledger, times):
    with replicas(store, 1, cores=True) as (server,):
        rate = times * peak(f"{server.url}/predict", body)
        single, large = mixed(server, body, rate, SECONDS)
    for load in (single, large):
        ledger.add(load.statuses(), f"{share(load):.1%} served")
        assert set(load.statuses()) <= {200, 429, 504}
    # About 10 large ones are served, give or take 3; tests/serving/test_capacity.py has thousands.
    assert 1 / 10 < share(large) / share(single) < 3, "they are starved, or starve others"
