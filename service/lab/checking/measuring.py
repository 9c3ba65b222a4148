"""Measures how a model answers photographs under each input that it may have been trained on."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from service.console import timed
from service.errors import CommandError
from service.lab.checking.fields import Field
from service.lab.checking.measured import Measured
from service.lab.checking.pictures import LEAST, Pictures
from service.lab.data.features import MAX_PIXELS, Decoded
from service.lab.data.photographs import Photograph
from service.lab.models.cutting import Cut
from service.lab.models.preprocessing import preprocessed
from service.serving.engines.openvino import OpenVinoEngine
from service.serving.host import available_cores
from service.serving.pixels import decode
from service.serving.pixels.resize import RESIZE
from service.store.card import PREPROCESSING, Input, Preprocessing

BUDGET_S = 75.0  # Opening and publishing a ResNet50 take the rest of 90 s.
SAMPLE = 40
# The part of the time by which each step must have ended.
PREPROCESSING_BY, RESIZE_BY, CONFIRMED_BY, EXIF_BY = 0.4, 0.75, 0.9, 1.0

NONE = PREPROCESSING["none"]
# What OpenCV's users fed: cv2.imread gives BGR. Keras' own `caffe` is BGR already.
BGR = tuple(PREPROCESSING[name].model_copy(update={"order": "bgr"}) for name in ("tf", "unit", "none"))
CANDIDATES = (*PREPROCESSING.values(), *BGR)

Clock = Callable[[], float]


def measure(
    bare: Cut,
    assumed: Input,
    given: Collection[Field],
    pictures: Pictures,
    clock: Clock = time.monotonic,
) -> Measured:
    """Tries preprocessings, then resizes on the best two, on 40 pictures; the rest confirm the best.

    `bare` is the model cut without preprocessing in front. Where the model has its own inside, no other
    is tried than those of `bare` and `assumed`. Among the best two is the preprocessing of `assumed` if
    it is in `given`. Ends within 75 s by the clock, with what was measured by then; only the first 8
    pictures are answered whatever it says. Raises CommandError if fewer than two can be decoded.
    """
    with timed(BUDGET_S, f"Checking what was done to pixels, up to {BUDGET_S:g} s") as tell:
        asking = Asking(bare, Measured(assumed), clock, tell)
        measured = asking.measured
        ordered = (*pictures.upright, *pictures.turned)
        sample = ordered[:SAMPLE]

        candidates = (NONE,) if bare.has_own_preprocessing else CANDIDATES
        candidates = tuple(dict.fromkeys((assumed.preprocessing, *candidates)))
        asking.ask(_varied([assumed], "preprocessing", candidates), sample, PREPROCESSING_BY)
        if len(measured.rows.get(assumed, ())) < LEAST:
            raise CommandError(f"Fewer than {LEAST} of the pictures can be decoded; check them.")

        best_two = measured.ranked()[:2]
        if "preprocessing" in given and assumed not in best_two:
            best_two = [assumed, best_two[0]]
        resizes = tuple(dict.fromkeys((assumed.resize, *RESIZE)))
        asking.ask(_varied(best_two, "resize", resizes), sample, RESIZE_BY)
        for _ in range(2):  # More pictures may show another to be the best.
            asking.ask(measured.finalists(measured.best(given)), ordered, CONFIRMED_BY)
        both = _varied([measured.best(given)], "exif", ("applied", "ignored"))
        asking.ask(both, pictures.turned[:SAMPLE], EXIF_BY)
    return measured


def _varied(inputs: Sequence[Input], name: Field, values: Sequence[object]) -> list[Input]:
    return [one.model_copy(update={name: value}) for one in inputs for value in values]


@dataclass
class DecodedVariously(Decoded):
    """Decodes each photograph under several inputs: batches are (n, inputs, height, width, 3)."""

    specs: Sequence[Input] = ()

    def pixels(self, data: bytes) -> NDArray[np.uint8]:
        return np.stack([decode.decode(data, spec, MAX_PIXELS) for spec in self.specs])


class Asking:
    """Asks a model that is compiled once; what is done to pixels is done in front of it."""

    def __init__(self, bare: Cut, measured: Measured, clock: Clock, tell: Callable[[], None]) -> None:
        self.measured = measured
        self._clock, self._started, self._tell = clock, clock(), tell
        self._answers = 0
        self._threads = available_cores()
        engine = OpenVinoEngine(self._threads)
        backbone, head = bare.graphs()
        self._backbone, self._head = engine.compile(for_floats(backbone)), engine.compile(head)

    def ask(self, inputs: Sequence[Input], photographs: Sequence[Photograph], share: float) -> None:
        """Asks all inputs about the pictures that one of them lacks, within that share of the time."""
        answered = [self.measured.rows.get(one, {}).keys() for one in inputs]
        todo = [photo for photo in photographs if any(photo not in those for those in answered)]
        specs = list(dict.fromkeys(_without_preprocessing(one) for one in inputs))
        decoded = DecodedVariously(specs[0], self._threads, specs=specs)
        for ones, pixels in decoded.batches(todo):
            if not self._has_time(len(ones) * len(inputs), share):
                return
            for one in inputs:
                mine = pixels[:, specs.index(_without_preprocessing(one))]
                self.measured.add(one, ones, self._probabilities(mine, one.preprocessing))
                self._answers += len(ones)
                self._tell()

    def _has_time(self, answers: int, share: float) -> bool:
        """Whether so many more answers are got within that share of the time, at the pace so far."""
        passed = self._clock() - self._started
        return not self._answers or passed * (1 + answers / self._answers) <= share * BUDGET_S

    def _probabilities(self, pixels: NDArray[np.uint8], how: Preprocessing) -> NDArray[np.float32]:
        # Keras preprocesses in place: each candidate needs a copy of its own.
        values: NDArray[np.float32] = preprocessed(pixels.astype(np.float32), how)
        return self._head(self._backbone(values)).copy()


def for_floats(backbone: ov.Model) -> ov.Model:
    """The same backbone, taking float32 pixels instead of uint8."""
    (pixels,) = backbone.get_parameters()
    pixels.set_element_type(ov.Type.f32)
    backbone.validate_nodes_and_infer_types()
    return backbone


def _without_preprocessing(one: Input) -> Input:
    return one.model_copy(update={"preprocessing": NONE})
