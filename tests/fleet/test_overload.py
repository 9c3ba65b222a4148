"""Ten times the rate that a real ResNet50 at 224x224 can serve, open loop. Figures: `make bench`."""

import sys
from pathlib import Path

import pytest
from bench import picture, stores
from fleet.overload import overload
from fleet.replicas import replicas

pytestmark = pytest.mark.fleet

SECONDS = 60
DEADLINE_S = 10


@pytest.fixture(scope="module")
def store():
    return stores.demo(Path(sys.prefix))


def test_a_flood_is_refused_and_the_rest_is_served(store, tmp_path, ledger):
    body = tmp_path / "picture.jpg"
    body.write_bytes(picture.jpeg())
    with replicas(store, 1, cores=True) as (server,):
        found = overload(server, body, SECONDS)
    remark = f"goodput {found.goodput_per_s / found.peak_per_s:.2f} of peak, obeyed {found.obeyed:.1%}"
    ledger.add(found.flood.statuses(), remark)
    statuses = found.flood.statuses()
    assert found.flood.failed() == []
    assert found.goodput_per_s >= 0.75 * found.peak_per_s
    assert found.accepted_p99_s < DEADLINE_S
    assert found.obeyed >= 0.95
    assert found.alive_p99_s < 0.1
    assert found.grown_mb < 100
    assert found.after_s < 2 * found.before_s + 0.1
    lone = found.counted[0] - statuses[200]
    assert found.counted[1] == statuses[429], "not every refusal is accounted for"
    assert 0 < lone < 100, "only those of the lone client come on top"
