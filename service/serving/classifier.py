"""Turns image bytes into probabilities. All protocols enter the serving layer here."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec

import numpy as np
from numpy.typing import NDArray

from service.errors import DeadlineExceeded, ImageError
from service.serving.batcher import Batcher, Job, JobOutputs, JobResult, Trace
from service.serving.capacity import Permit
from service.serving.explain.evidence import Evidence, evidence_of
from service.serving.explain.shift import IN_PLACE, Offset, moved
from service.serving.heads import Heads
from service.serving.host import give_way
from service.serving.loading import LoadedBackbone, LoadedHead
from service.serving.pixels import decode
from service.serving.pixels.budget import PixelBudget
from service.store.card import Input

P = ParamSpec("P")

Moves = Sequence[tuple[Job, Offset]]
Picture = bytes | NDArray[np.uint8]  # A file, or pixels in the input size of the head.


@dataclass(frozen=True)
class Stages:
    """The time in each stage of the image that was ready last; `queue_ms` is all its waiting."""

    decode_ms: float
    queue_ms: float
    inference_ms: float


@dataclass(frozen=True)
class Classified:
    """Probabilities of each image by head name, the heads that computed them, and the stage timings.

    An image that was moved counts once for each offset. `traces` are in the order of `images`.
    """

    heads: Sequence[LoadedHead]
    images: Sequence[dict[str, NDArray[np.float32]]]
    traces: Sequence[dict[str, Trace]]
    stages: Stages

    @property
    def size(self) -> int:
        """The number of probabilities of all images and heads."""
        return len(self.images) * sum(len(head.card.labels) for head in self.heads)


@dataclass(frozen=True)
class Explanations:
    """The evidence in each image, and the classification that it explains."""

    classified: Classified
    evidence: Sequence[Evidence]

    @property
    def stages(self) -> Stages:
        return self.classified.stages


class Classifier:
    """Decodes in a bounded thread pool and computes in the batcher's thread."""

    def __init__(
        self, heads: Heads, batcher: Batcher, decode_threads: int, max_image_pixels: int
    ) -> None:
        self.heads = heads
        self.batcher = batcher
        self.capacity = batcher.capacity
        self._decoders = ThreadPoolExecutor(
            decode_threads, thread_name_prefix="decode", initializer=give_way
        )
        self._max_image_pixels = max_image_pixels

    async def classify(
        self,
        images: list[Picture],
        heads: Sequence[LoadedHead],
        permit: Permit,
        offsets: Sequence[Offset] = (IN_PLACE,),
        is_traced: bool = False,
    ) -> Classified:
        """Runs every head on every image moved by each offset; heads on one backbone share its pass.

        Empties `images`, so that each file is freed once it is decoded. Raises TooBusy or TooManyJobs at
        once, DeadlineExceeded, or the ImageError of a bad image. On an error or when cancelled, jobs
        that have not reached the engine are dropped.
        """
        arrived = time.perf_counter()
        by_backbone: dict[LoadedBackbone, list[LoadedHead]] = {}
        for head in heads:
            by_backbone.setdefault(head.backbone, []).append(head)
        deadline = permit.deadline
        jobs = [
            [
                (Job(group, deadline, is_traced=is_traced), offset)
                for offset in offsets
                for group in by_backbone.values()
            ]
            for _ in images
        ]
        everything = [job for of_image in jobs for job, _ in of_image]
        permit.seat([job.done for job in everything])
        try:
            waiting = [asyncio.wrap_future(job.done) for job in everything]
            budget = PixelBudget(images, self._max_image_pixels)
            images.reverse()
            for index, of_image in enumerate(jobs):
                run = self._decoders.submit if isinstance(images[-1], bytes) else _at_once
                run(self._prepare, index, images.pop(), of_image, partial(budget.spend, index), permit)
            async with asyncio.timeout(deadline.left_s()):
                answers = await asyncio.gather(*waiting)
        except TimeoutError as exc:
            raise DeadlineExceeded(deadline.timeout_s) from exc
        finally:
            for job in everything:
                job.done.cancel()
        outputs = _by_image(answers, len(by_backbone))
        return Classified(
            heads,
            [of_image.probabilities for of_image in outputs],
            [of_image.traces for of_image in outputs],
            _stages(arrived, everything, answers),
        )

    async def explain(
        self, images: list[Picture], head: LoadedHead, permit: Permit, index: int | None
    ) -> Explanations:
        """Returns the evidence for class `index` in every image by one head; None means the likeliest.

        Raises CannotExplain, and what `classify` raises.
        """
        loop = asyncio.get_running_loop()
        layers = await loop.run_in_executor(self._decoders, lambda: head.network.layers)
        classified = await self.classify(images, [head], permit, is_traced=True)
        name, output = head.card.head, head.card.output

        def evidence() -> list[Evidence]:
            return [
                evidence_of(
                    layers, trace[name], output, rank(of_image[name], 1)[0] if index is None else index
                )
                for of_image, trace in zip(classified.images, classified.traces, strict=True)
            ]

        return Explanations(classified, await loop.run_in_executor(self._decoders, evidence))

    def close(self) -> None:
        """Ends the threads; jobs that were not started raise NotReady."""
        self.batcher.close()
        self._decoders.shutdown(cancel_futures=True)

    def _prepare(
        self, index: int, picture: Picture, moves: Moves, spend: decode.Spend, permit: Permit
    ) -> None:
        """Decodes a picture once per distinct input, files in the thread pool, and queues its jobs."""
        try:
            by_input: dict[Input, list[tuple[Job, Offset]]] = {}
            for job, offset in moves:
                by_input.setdefault(job.backbone.input, []).append((job, offset))
            for spec, alike in by_input.items():
                self._decode(picture, spec, alike, spend)
        except Exception as exc:
            if isinstance(exc, ImageError):
                exc.index = index
            for job, _ in moves:
                job.fail(exc)
        finally:
            permit.give_back(size_of(picture))

    def _decode(self, picture: Picture, spec: Input, moves: Moves, spend: decode.Spend) -> None:
        wanted = [(job, offset) for job, offset in moves if job.is_wanted()]
        if not wanted:
            return
        started = time.perf_counter()
        pixels = decode.pixels_of(picture, spec, self._max_image_pixels, spend)
        decode_s = time.perf_counter() - started
        for job, offset in wanted:
            job.pixels, job.decode_s = moved(pixels, offset), decode_s
            self.batcher.put(job)


def size_of(picture: Picture) -> int:
    """The size of a picture in bytes."""
    return len(picture) if isinstance(picture, bytes) else picture.nbytes


def _at_once(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    work(*args, **kwargs)


def rank(probabilities: NDArray[np.float32], top_k: int) -> list[int]:
    """The indices of the `top_k` likeliest classes, likeliest first; ties in the order of classes."""
    best: list[int] = np.argsort(-probabilities, kind="stable")[:top_k].tolist()
    return best


def _by_image(answers: Sequence[JobResult], backbones: int) -> list[JobOutputs]:
    """Merges the results of each image's jobs, one for each backbone; jobs are in order of images."""
    merged: list[JobOutputs] = []
    for start in range(0, len(answers), backbones):
        merged.append(JobOutputs())
        for answer in answers[start : start + backbones]:
            merged[-1].probabilities |= answer.outputs.probabilities
            merged[-1].traces |= answer.outputs.traces
    return merged


def _stages(arrived: float, jobs: Sequence[Job], answers: Sequence[JobResult]) -> Stages:
    job, last = max(zip(jobs, answers, strict=True), key=lambda pair: pair[1].finished)
    waited = last.finished - arrived - job.decode_s - last.inference_s
    return Stages(1e3 * job.decode_s, 1e3 * max(waited, 0.0), 1e3 * last.inference_s)
