"""The schemas of answers, and how they are built from the classifier's results."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from service.api.schemas.numbers import Milliseconds, Number
from service.serving.classifier import Classified, Explanations, Stages, rank
from service.serving.deadline import Deadline
from service.serving.explain.shift import IN_PLACE, Offset, stability_of
from service.serving.loading import LoadedHead
from service.store.card import Precision

DEFAULT_TOP_K = 5


class Prediction(BaseModel):
    """One class and its probability."""

    index: int
    label: str
    probability: Number


class Timing(BaseModel):
    """The milliseconds of each stage for the image that was ready last, and of the whole request."""

    decode: Milliseconds
    queue: Milliseconds = Field(description="The wait for a decoder and for the engine.")
    inference: Milliseconds
    total: Milliseconds = Field(description="The time since the body was read.")

    @classmethod
    def of(cls, stages: Stages, deadline: Deadline) -> "Timing":
        total_ms = 1e3 * (deadline.timeout_s - deadline.left_s())
        return cls(
            decode=stages.decode_ms, queue=stages.queue_ms, inference=stages.inference_ms, total=total_ms
        )

    def header(self) -> str:
        """Formats it as a Server-Timing header."""
        return ", ".join(f"{stage};dur={ms:.3f}" for stage, ms in self.model_dump().items())


class Result(BaseModel):
    """The likeliest classes of one image, the likeliest first."""

    predictions: list[Prediction]


class AnsweringHead(BaseModel):
    """One of the heads that answered."""

    head: str
    version: int
    engine: str
    precision: Precision | None = Field(
        default=None, description="What its backbone computed in; servers before 0.2 do not say."
    )


class Predicted(AnsweringHead):
    """The answer of /predict: one result per image, in order."""

    results: list[Result]
    timing_ms: Timing


class Explanation(Prediction):
    """The evidence for one class of an image: the sum of `grid` plus `constant` is its `logit`."""

    logit: Number = Field(description="The logit of the class, as the engine computed it.")
    constant: Number = Field(description="The part of the logit that comes from biases alone.")
    grid: list[list[Number]] = Field(
        description="The part of the logit from each position, in rows from the top of the picture."
    )


class Explained(AnsweringHead):
    """The answer of /explain: one result per image, in order."""

    results: list[Explanation]
    timing_ms: Timing


class Moved(Prediction):
    """The likeliest class of the picture moved by one offset."""

    kept: Number = Field(description="The probability of the unmoved picture's likeliest class.")


class ShiftedHead(AnsweringHead, Prediction):
    """The answers of one head to the picture in its place and to the moved pictures."""

    stability: Number = Field(description="The share of offsets that do not change the likeliest class.")
    drift_mean: Number = Field(description="The mean absolute change of that class's probability.")
    drift_max: Number = Field(description="The largest absolute change of that class's probability.")
    answers: list[Moved] = Field(
        description="The answers to the moved pictures, in the order of the offsets."
    )


class Shifted(BaseModel):
    """The answer of /shift: what each head makes of the picture moved by each offset."""

    offsets: list[Offset] = Field(description="The moves right and down, in pixels of the heads' input.")
    heads: list[ShiftedHead]
    timing_ms: Timing


class Comparison(BaseModel):
    """The likeliest classes of one image by each head; `agree` if all put the same label first."""

    predictions: dict[str, list[Prediction]]
    agree: bool


class Compared(BaseModel):
    """The answer of /compare; `agreement` is the share of images on which all heads agree."""

    heads: list[AnsweringHead]
    results: list[Comparison]
    agreement: Number
    timing_ms: Timing


class Problem(BaseModel):
    """A problem document (RFC 9457); `error` repeats `detail` for clients of inference protocols."""

    type: str = Field(examples=["urn:resnet-heads:problem:unknown-head"])
    title: str
    status: int
    detail: str
    error: str
    image: int | None = Field(None, description="The index of the image at fault, counted from 0.")


def predicted(
    classified: Classified, head: LoadedHead, engine: str, top_k: int | None, timing: Timing
) -> Predicted:
    """The answer of /predict from what the classifier returned."""
    results = [
        Result(predictions=_ranked(of_image[head.card.head], head, top_k))
        for of_image in classified.images
    ]
    return Predicted(**_answering(head, engine), results=results, timing_ms=timing)


def compared(classified: Classified, engine: str, top_k: int | None, timing: Timing) -> Compared:
    """The answer of /compare from what the classifier returned."""
    results = []
    for of_image in classified.images:
        ranked = {
            head.card.head: _ranked(of_image[head.card.head], head, top_k) for head in classified.heads
        }
        results.append(
            Comparison(
                predictions=ranked, agree=len({first.label for first, *_ in ranked.values()}) == 1
            )
        )
    return Compared(
        heads=[AnsweringHead(**_answering(head, engine)) for head in classified.heads],
        results=results,
        agreement=sum(result.agree for result in results) / len(results),
        timing_ms=timing,
    )


def explained(done: Explanations, head: LoadedHead, engine: str, timing: Timing) -> Explained:
    """The answer of /explain from what the classifier returned."""
    name = head.card.head
    results = [
        Explanation(
            **_prediction(of_image[name], one.index, head),
            logit=one.logit,
            constant=one.constant,
            grid=one.grid.tolist(),
        )
        for of_image, one in zip(done.classified.images, done.evidence, strict=True)
    ]
    return Explained(**_answering(head, engine), results=results, timing_ms=timing)


def shifted(
    classified: Classified, ran: Sequence[Offset], offsets: Sequence[Offset], engine: str, timing: Timing
) -> Shifted:
    """The answer of /shift on `offsets`; the classifier moved one image by all of `ran`."""
    at = dict(zip(ran, classified.images, strict=True))
    heads = []
    for head in classified.heads:
        in_place, *moved = (at[offset][head.card.head] for offset in (IN_PLACE, *offsets))
        stability = stability_of(in_place, moved)
        answers = [
            Moved(**_prediction(answer, int(answer.argmax()), head), kept=kept)
            for answer, kept in zip(moved, stability.kept, strict=True)
        ]
        heads.append(
            ShiftedHead(
                **_answering(head, engine),
                **_prediction(in_place, int(in_place.argmax()), head),
                stability=stability.stability,
                drift_mean=stability.drift_mean,
                drift_max=stability.drift_max,
                answers=answers,
            )
        )
    return Shifted(offsets=list(offsets), heads=heads, timing_ms=timing)


def _answering(head: LoadedHead, engine: str) -> dict[str, Any]:
    return {
        "head": head.card.head,
        "version": head.card.version,
        "engine": engine,
        "precision": head.backbone.computes_in,
    }


def _prediction(probabilities: NDArray[np.float32], index: int, head: LoadedHead) -> dict[str, Any]:
    return {
        "index": index,
        "label": head.card.labels[index],
        "probability": float(probabilities[index]),
    }


def _ranked(probabilities: NDArray[np.float32], head: LoadedHead, top_k: int | None) -> list[Prediction]:
    best = rank(probabilities, top_k or DEFAULT_TOP_K)
    return [Prediction(**_prediction(probabilities, index, head)) for index in best]
