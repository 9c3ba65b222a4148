import keras
import numpy as np
import pytest

from service.errors import CommandError
from service.lab.training.head_spec import HeadSpec, parse_head


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("gap", HeadSpec("gap", "gap")),
        ("gmp", HeadSpec("gmp", "gmp")),
        ("flatten", HeadSpec("flatten", "flatten")),
        ("average:2", HeadSpec("average-2", "average", 2, 1)),
        ("max:3:2", HeadSpec("max-3-2", "max", 3, 2)),
        ("mid=average:2,hidden=256", HeadSpec("mid", "average", 2, 1, (256,))),
        ("gap,hidden=256,128", HeadSpec("gap-hidden-256-128", "gap", hidden_units=(256, 128))),
        ("a=gap,hidden=64,32,dropout=0.3", HeadSpec("a", "gap", None, None, (64, 32), 0.3)),
        ("b=flatten,dropout=.5", HeadSpec("b", "flatten", dropout=0.5)),
    ],
)
def test_a_head_is_described_in_one_word(text, spec):
    assert parse_head(text) == spec


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is no pooling"),
        ("gab", "'gab' is no pooling"),
        ("gap:2", "'gap:2' is no pooling"),
        ("average", "'average' is no pooling"),
        ("average:2:1:1", "is no pooling"),
        ("average:0", "'0' is not a whole number"),
        ("average:x", "'x' is not a whole number"),
        ("gap,hidden=", "'' is not a whole number"),
        ("gap,hidden=1e3", "'1e3' is not a whole number"),
        ("gap,256", "'256' is not understood"),
        ("gap,hidden=2,hidden=3", "'hidden=3' is not understood"),
        ("gap,width=3", "'width=3' is not understood"),
        ("gap,dropout=1", "'1' is not a rate"),
        ("gap,dropout=-1", "'-1' is not a rate"),
        ("Gap Head=gap", "'Gap Head' is not a head's name"),
        ("=gap", "'' is not a head's name"),
    ],
)
def test_what_is_not_understood_is_said_with_the_way_to_write_it(text, reason):
    with pytest.raises(CommandError) as refused:
        parse_head(text)
    assert reason in str(refused.value)
    assert "[NAME=]POOLING" in str(refused.value)


MAPS = np.random.default_rng(0).normal(size=(3, 7, 7, 4)).astype("float32")


def pooled(text):
    features = keras.Input(MAPS.shape[1:])
    return keras.Model(features, parse_head(text).pooled(features))(MAPS).numpy()


@pytest.mark.parametrize(
    ("text", "by_hand"),
    [
        ("gap", MAPS.mean(axis=(1, 2))),
        ("average:7", MAPS.mean(axis=(1, 2))),
        ("gmp", MAPS.max(axis=(1, 2))),
        ("max:7", MAPS.max(axis=(1, 2))),
        ("flatten", MAPS.reshape(3, -1)),
        ("average:1", MAPS.reshape(3, -1)),
        ("max:4:4", MAPS[:, :4, :4].max(axis=(1, 2))),
    ],
)
def test_pooling_is_what_its_word_says(text, by_hand):
    np.testing.assert_allclose(pooled(text), by_hand, atol=1e-6)


def test_a_window_moves_by_its_stride():
    by_hand = [MAPS[:, y : y + 3, x : x + 3].mean(axis=(1, 2)) for y in (0, 2, 4) for x in (0, 2, 4)]
    np.testing.assert_allclose(pooled("average:3:2"), np.concatenate(by_hand, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("gap", 49),
        ("flatten", 49),
        ("average:2", 49),
        ("average:4:4", 16),
        ("average:2:3", 16),
        ("max:3:2", 49),
    ],
)
def test_positions_that_no_window_covers_are_counted(text, seen):
    assert parse_head(text).seen(7) == seen


def test_a_window_larger_than_the_map_is_refused():
    with pytest.raises(CommandError, match="a window of 8 is larger than the 7x7 map"):
        pooled("average:8")
