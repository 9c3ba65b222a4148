"""Image bytes in, ranked classes out: what every protocol in front of the service calls."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import DeadlineExceeded, ImageError
from service.serving import image
from service.serving.batcher import Answer, Batcher, Deadline, Job
from service.serving.heads import Heads, LoadedBackbone, LoadedHead
from service.serving.threads import give_way


@dataclass(frozen=True)
class Prediction:
    """One ranked class."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Stages:
    """Where a request's time went, of the image that was ready last; `queue_ms` is all its waiting."""

    decode_ms: float
    queue_ms: float
    inference_ms: float


@dataclass(frozen=True)
class Classified:
    """Probabilities of each image by head name, the heads that computed them, and the time it took."""

    heads: Sequence[LoadedHead]
    images: Sequence[dict[str, NDArray[np.float32]]]
    stages: Stages


class Classifier:
    """Decodes in a bounded pool of threads and computes in the batcher's."""

    def __init__(
        self, heads: Heads, batcher: Batcher, decode_threads: int, max_image_pixels: int
    ) -> None:
        self.heads = heads
        self.batcher = batcher
        self._decoders = ThreadPoolExecutor(
            decode_threads, thread_name_prefix="decode", initializer=give_way
        )
        self._max_image_pixels = max_image_pixels

    async def classify(
        self, images: Sequence[bytes], heads: Sequence[LoadedHead], deadline: Deadline
    ) -> Classified:
        """Every head on every image; heads that share a backbone ride on one pass.

        Raises TooBusy on arrival, DeadlineExceeded, or the ImageError of a bad image. When it
        raises or is cancelled, work that has not reached the engine is dropped.
        """
        arrived = time.perf_counter()
        by_backbone: dict[LoadedBackbone, list[LoadedHead]] = {}
        for head in heads:
            by_backbone.setdefault(head.backbone, []).append(head)
        jobs = [[Job(group, deadline) for group in by_backbone.values()] for _ in images]
        everything = [job for of_image in jobs for job in of_image]
        self.batcher.admit(everything, deadline)
        try:
            waiting = [asyncio.wrap_future(job.done) for job in everything]
            for index, (data, of_image) in enumerate(zip(images, jobs, strict=True)):
                self._decoders.submit(self._decode, index, data, of_image)
            async with asyncio.timeout(deadline.left_s()):
                answers = await asyncio.gather(*waiting)
        except TimeoutError as exc:
            raise DeadlineExceeded(deadline.timeout_s) from exc
        finally:
            for job in everything:
                job.done.cancel()
        return Classified(heads, _by_image(answers, len(images)), _stages(arrived, everything, answers))

    def close(self) -> None:
        """Ends the threads; what was not started raises NotReady where it is awaited."""
        self.batcher.close()
        self._decoders.shutdown(cancel_futures=True)

    def _decode(self, index: int, data: bytes, jobs: Sequence[Job]) -> None:
        """Runs in the pool: decodes once per distinct input, and queues the jobs of one image."""
        pixels = {}
        for job in jobs:
            if not job.is_wanted():
                continue
            spec = job.backbone.input
            started = time.perf_counter()
            try:
                if spec not in pixels:
                    pixels[spec] = image.decode(data, spec, self._max_image_pixels)
            except Exception as exc:
                if isinstance(exc, ImageError):
                    exc.index = index
                job.fail(exc)
                continue
            job.pixels, job.decode_s = pixels[spec], time.perf_counter() - started
            self.batcher.put(job)


def rank(probabilities: NDArray[np.float32], labels: Sequence[str], top_k: int) -> list[Prediction]:
    """The `top_k` likeliest classes, likeliest first; equal ones in label order."""
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [Prediction(int(index), labels[index], float(probabilities[index])) for index in order]


def _by_image(answers: Sequence[Answer], images: int) -> list[dict[str, NDArray[np.float32]]]:
    """The answers of each image's jobs as one dictionary; jobs are in the order of images."""
    per_image = len(answers) // images
    merged: list[dict[str, NDArray[np.float32]]] = []
    for start in range(0, len(answers), per_image):
        merged.append({})
        for answer in answers[start : start + per_image]:
            merged[-1] |= answer.probabilities
    return merged


def _stages(arrived: float, jobs: Sequence[Job], answers: Sequence[Answer]) -> Stages:
    job, last = max(zip(jobs, answers, strict=True), key=lambda pair: pair[1].finished)
    waited = last.finished - arrived - job.decode_s - last.inference_s
    return Stages(1e3 * job.decode_s, 1e3 * max(waited, 0.0), 1e3 * last.inference_s)
