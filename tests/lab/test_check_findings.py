"""What a check decides, on made-up answers of which the quality is known."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from service.lab.checking.findings import Decision, decide
from service.lab.checking.measured import Measured
from service.lab.data.photographs import Photograph
from service.store.card import PREPROCESSING, Input

LABELS = tuple("abcde")
ASSUMED = Input(
    height=8, width=8, exif="ignored", decode="exact", resize="image_dataset", preprocessing="caffe"
)
UNIT = PREPROCESSING["unit"]


def photographs(count: int, first: int = 0) -> list[Photograph]:
    names = (str(number) for number in range(first, first + count))
    return [Photograph(Path(name), name, int(name) % len(LABELS)) for name in names]


class Answers:
    """Answers of inputs, measured on pictures; equal seeds are noise that all inputs share."""

    def __init__(self, assumed: Input = ASSUMED) -> None:
        self.measured = Measured(assumed)
        self._seeds = itertools.count()

    def add(self, quality: float, ones=None, sureness=1.0, order=LABELS, **changes) -> Input:
        """Answers of an input: `quality` is the height of the right logit above noise of deviation 1."""
        ones = photographs(40) if ones is None else ones
        rng = np.random.default_rng(next(self._seeds))
        right = np.array([LABELS.index(order[one.label]) for one in ones])
        logits = quality * np.eye(len(LABELS))[right] + rng.normal(size=(len(ones), len(LABELS)))
        rows = special.softmax(2 * sureness * logits, axis=1).astype(np.float32)
        one = self.measured.assumed.model_copy(update=changes)
        self.measured.add(one, ones, rows)
        return one

    def decided(self, *given) -> Decision:
        return decide(self.measured, LABELS, given)


@pytest.fixture
def answers() -> Answers:
    return Answers()


def kinds(decision: Decision) -> dict[str, str]:
    return {one.field: one.kind for one in decision.findings}


def test_what_is_much_better_is_taken_and_the_next_is_named(answers):
    answers.add(0)
    answers.add(5, preprocessing=UNIT)
    answers.add(1, preprocessing=PREPROCESSING["torch"])
    decision = answers.decided()
    assert kinds(decision) == {"preprocessing": "taken"}
    assert decision.chosen == ASSUMED.model_copy(update={"preprocessing": UNIT})
    (said,) = decision.sentences("the assumed")
    assert said.startswith("on 40 pictures: preprocessing unit is better than the assumed caffe: ")
    assert "; next torch " in said


def test_a_rival_that_is_as_good_is_called_so(answers):
    answers.add(0)
    answers.add(4, preprocessing=UNIT)
    answers.add(4, preprocessing=PREPROCESSING["tf"])
    decision = answers.decided()
    assert decision.chosen.preprocessing in (UNIT, PREPROCESSING["tf"])
    assert "; about as good " in decision.sentences("the assumed")[0]


def test_the_assumed_one_is_confirmed_where_it_stands_out(answers):
    answers.add(5)
    answers.add(1, preprocessing=UNIT)
    answers.add(0, resize="load_img")
    decision = answers.decided()
    assert kinds(decision) == {"preprocessing": "confirmed", "resize": "confirmed"}
    assert decision.chosen == ASSUMED
    assert decision.settled() == {"preprocessing": ASSUMED.preprocessing, "resize": "image_dataset"}


def test_where_nothing_stands_out_the_assumed_one_holds_and_is_not_called_settled(answers):
    answers.add(3)
    answers.add(3.05, preprocessing=UNIT)
    decision = answers.decided()
    assert kinds(decision) == {"preprocessing": "open"}
    assert (decision.chosen, decision.settled()) == (ASSUMED, {})
    assert (
        "no preprocessing stands out, so the card's caffe holds" in decision.sentences("the card's")[0]
    )


def test_answers_that_differ_by_nothing_but_rounding_are_a_tie(answers):
    one, ones = answers.add(9, sureness=9), photographs(40)
    truth, rows = answers.measured.matrix(one)
    for preprocessing, error in ((UNIT, 1e-6), (PREPROCESSING["none"], -1e-6)):
        changed = np.clip(rows - error * np.eye(len(LABELS))[truth], 0, 1).astype(np.float32)
        answers.measured.add(ASSUMED.model_copy(update={"preprocessing": preprocessing}), ones, changed)
    assert kinds(answers.decided()) == {"preprocessing": "open"}


def test_being_too_sure_costs_nothing_and_a_guess_that_hedges_gains_nothing(answers):
    answers.add(0, sureness=0.01)  # Its log loss is ln 5, less than that of the sure one.
    answers.add(1.5, sureness=50, preprocessing=UNIT)
    assert answers.decided().chosen.preprocessing == UNIT


def test_what_was_given_is_kept_and_doubted_where_another_is_clearly_better(answers):
    answers.add(0)
    answers.add(5, preprocessing=UNIT)
    answers.add(0, resize="load_img")
    answers.add(5, preprocessing=UNIT, resize="load_img")
    decision = answers.decided("preprocessing")
    assert decision.chosen == ASSUMED
    assert kinds(decision) == {"preprocessing": "doubted", "resize": "open"}
    assert "warning: preprocessing unit is better than the given caffe" in decision.sentences("the")[0]


def test_what_was_given_and_is_right_needs_no_word(answers):
    answers.add(5)
    answers.add(0, preprocessing=UNIT)
    assert answers.decided("preprocessing").sentences("the") == []


def test_the_resize_is_judged_under_the_best_preprocessing(answers):
    answers.add(0)
    answers.add(0, resize="load_img")
    answers.add(2, preprocessing=UNIT)
    answers.add(6, preprocessing=UNIT, resize="load_img")
    decision = answers.decided()
    assert kinds(decision) == {"preprocessing": "taken", "resize": "taken"}
    assert (decision.chosen.preprocessing, decision.chosen.resize) == (UNIT, "load_img")


def test_more_pictures_decide_where_the_first_disagree(answers):
    """The one that was worse on the first 40 is better on all 200: those decide."""
    few, many = photographs(40), photographs(160, first=40)
    for changes, first, then in (({}, 3, 0.5), ({"preprocessing": UNIT}, 2.5, 5)):
        answers.add(first, few, **changes)
        answers.add(then, many, **changes)
    decision = answers.decided()
    assert (decision.chosen.preprocessing, decision.images) == (UNIT, 200)


@pytest.mark.parametrize(("assumed", "other"), [("ignored", "applied"), ("applied", "ignored")])
def test_exif_is_judged_on_turned_pictures_alone(assumed, other):
    answers = Answers(ASSUMED.model_copy(update={"exif": assumed}))
    turned = photographs(20, first=100)
    answers.add(5)
    answers.add(0, turned)
    answers.add(5, turned, exif=other)
    answers.add(0, preprocessing=UNIT)
    decision = answers.decided()
    assert kinds(decision) == {"preprocessing": "confirmed", "exif": "taken"}
    assert decision.chosen.exif == other
    assert any(one.startswith("on 20 turned pictures: EXIF") for one in decision.sentences("the"))


def test_exif_that_was_measured_does_not_change_with_the_resize():
    answers = Answers()
    turned = photographs(6, first=100)
    answers.add(3, turned)
    answers.add(3, turned, exif="applied")
    decision = answers.decided()
    assert kinds(decision) == {"exif": "open"}
    assert decision.settled() == {"exif": "ignored"}


def test_no_better_than_chance_is_told_and_changes_nothing(answers):
    for one in PREPROCESSING.values():
        answers.add(0, preprocessing=one)
    decision = answers.decided()
    assert (decision.chosen, decision.findings) == (ASSUMED, ())
    assert "no way to prepare the pixels makes the answers better than chance" in decision.hints[0]
    assert "another order" not in " ".join(decision.hints)


@pytest.mark.parametrize(("assumed", "other"), [("ignored", "applied"), ("applied", "ignored")])
@pytest.mark.parametrize("count", [19, 21])
def test_where_most_pictures_are_turned_the_other_way_is_told(assumed, other, count):
    answers = Answers(ASSUMED.model_copy(update={"exif": assumed}))
    answers.add(0)
    answers.add(0, photographs(count), exif=other)
    told = " ".join(answers.decided().hints)
    assert (f"with EXIF {assumed}: try --exif {other} too" in told) == (count > 20)


@pytest.mark.parametrize("order", ["bcdea", "edcba", "badce"])
def test_labels_in_another_order_are_told(order):
    answers = Answers()
    answers.add(0)
    answers.add(5, preprocessing=UNIT, order=order)
    hints = answers.decided().hints
    (said,) = (hint for hint in hints if "in another order" in hint)
    mine, theirs = (part.split("'")[1] for part in said.split("pictures of ")[1].split("answered "))
    assert order[LABELS.index(mine)] == theirs


def test_a_weak_model_is_not_told_of_another_order():
    answers = Answers()
    answers.add(0.7)
    answers.add(0.2, preprocessing=UNIT)
    assert "another order" not in " ".join(answers.decided().hints)


def test_with_a_picture_or_two_nothing_is_decided():
    answers = Answers()
    answers.add(0, photographs(2))
    answers.add(9, photographs(2), preprocessing=UNIT)
    assert answers.decided().chosen == ASSUMED


def test_long_labels_make_no_long_sentence():
    answers = Answers()
    answers.add(5, order="bcdea")
    labels = [one * 200 for one in LABELS]
    sentences = decide(answers.measured, labels, ()).sentences("the assumed")
    assert max(map(len, sentences)) <= 300


def test_where_all_are_equally_good_few_are_taken():
    """Of eight preprocessings the best is sought: the interval allows for that (5 % at most)."""
    taken = 0
    for seed in range(40):
        answers = Answers()
        answers._seeds = itertools.count(100 * seed)
        for one in PREPROCESSING.values():
            answers.add(2, preprocessing=one)
        for name in ("tf", "unit", "none"):
            bgr = PREPROCESSING[name].model_copy(update={"order": "bgr"})
            answers.add(2, preprocessing=bgr)
        taken += "taken" in kinds(answers.decided()).values()
    assert stats.binomtest(taken, 40, 0.05, alternative="greater").pvalue > 0.01
