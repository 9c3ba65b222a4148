import pytest
from experiment_records import experiment, trained
from fakes import structure

from service.study.road import roads
from service.study.rows import Candidate


def average(side, stride=1, **changes) -> Candidate:
    pooling = structure("average", filter=(side, side), stride=(stride, stride), **changes)
    return trained(f"average{side}", structure=pooling)


def test_the_road_goes_from_flatten_to_gap():
    tested = [
        trained("gap"),
        average(7),
        average(2),
        average(1),
        trained("flatten", structure=structure("flatten")),
    ]
    (road,) = roads(tested)
    assert [(stop.candidate.head, stop.filter_side, stop.cells) for stop in road] == [
        ("flatten", 1, 7),
        ("average1", 1, 7),
        ("average2", 2, 6),
        ("gap", 7, 1),
        ("average7", 7, 1),
    ]
    assert [stop.is_average for stop in road] == [False, True, True, False, True]


@pytest.mark.parametrize(
    "other",
    [
        average(2, stride=2),
        average(2, hidden_units=(64,)),
        trained("max", structure=structure("max", filter=(2, 2), stride=(1, 1))),
        trained("wide", structure=structure("average", filter=(2, 3), stride=(1, 1))),
        trained("gmp", structure=structure("gmp")),
        trained("elsewhere", experiment(data="a" * 64)),
        trained("tuned", experiment(fine_tuned_stages=1)),
        trained("other-backbone", experiment(backbone="random")),
    ],
    ids=lambda other: other.head,
)
def test_heads_that_differ_in_more_are_not_on_it(other):
    (road,) = roads([trained("gap"), average(3), other])
    assert [stop.candidate.head for stop in road] == ["average3", "gap"]


def test_its_two_ends_alone_are_no_road():
    assert roads([trained("gap"), trained("flatten", structure=structure("flatten"))]) == []
    assert roads([average(3)]) == []
