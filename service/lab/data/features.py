"""Feature maps of photographs, computed once by OpenVINO and cached on disk.

Each photograph has a float16 file for each backbone, written with an atomic rename. A run that was
stopped continues where it was, and no more than a batch is ever in memory.
"""

import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.errors import CommandError, ImageError, reason_of
from service.lab.data.photographs import Photograph
from service.serving.engines import Network
from service.serving.host import give_way
from service.serving.pixels import decode
from service.store.card import Input

BATCH = 8
AHEAD = 3  # Batches that may be decoded while one is computed.
MAX_PIXELS = 100_000_000
SUFFIX = ".f16"
MAX_VALUE = float(np.finfo(np.float16).max)


@dataclass
class Decoded:
    """Decodes photographs as the service does; `broken` holds the reasons of unreadable ones."""

    spec: Input
    threads: int
    broken: dict[Photograph, str] = field(default_factory=dict)

    def batches(
        self, photographs: Sequence[Photograph]
    ) -> Iterator[tuple[list[Photograph], NDArray[np.uint8]]]:
        """Yields batches of at most 8, (n, height, width, 3), without broken photographs."""
        todo = iter(photographs)
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="decode", initializer=give_way)
        with pool:
            waiting: list[tuple[Photograph, Future[NDArray[np.uint8] | None]]] = []
            while True:
                wanted = AHEAD * BATCH - len(waiting)
                waiting += [(one, pool.submit(self._decode, one)) for one in islice(todo, wanted)]
                if not waiting:
                    return
                now, waiting = waiting[:BATCH], waiting[BATCH:]
                done = [(one, pixels) for one, future in now if (pixels := future.result()) is not None]
                if done:
                    yield [one for one, _ in done], np.stack([pixels for _, pixels in done])

    def pixels(self, data: bytes) -> NDArray[np.uint8]:
        """Decodes a file. Raises ImageError."""
        return decode.decode(data, self.spec, MAX_PIXELS)

    def _decode(self, one: Photograph) -> NDArray[np.uint8] | None:
        try:
            return self.pixels(one.path.read_bytes())
        except ImageError as exc:
            self.broken[one] = exc.reason
        except OSError as exc:
            self.broken[one] = reason_of(exc)
        return None


@dataclass(frozen=True)
class FeatureCache:
    """The cache in the folder `root`; `key` is the digest of backbone and input."""

    root: Path
    key: str
    shape: tuple[int, int, int]
    max_bytes: int

    def missing(self, wanted: Sequence[Photograph]) -> list[Photograph]:
        """Returns the photographs without features on disk; marks the others as used now."""
        there = {one for one in wanted if self._path(one).exists()}
        for one in there:
            self._path(one).touch()
        return [one for one in wanted if one not in there]

    def make_room(self, wanted: Sequence[Photograph]) -> None:
        """Deletes the least recently used features, except those of `wanted`, until these fit.

        Raises CommandError if the features of `wanted` exceed the cache's size.
        """
        needed = len(wanted) * self._bytes
        if needed > self.max_bytes:
            raise CommandError(
                f"The features of {len(wanted)} pictures take {needed / 1e9:.1f} GB; "
                f"--cache-gb allows {self.max_bytes / 1e9:.1f}."
            )
        mine = {self._path(one) for one in wanted}
        others = [path for path in self.root.glob(f"*/*/*{SUFFIX}") if path not in mine]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        room = self.max_bytes - needed
        for path in others:
            room -= path.stat().st_size
            if room < 0:
                path.unlink(missing_ok=True)

    def extract(
        self, network: Network, decoded: Decoded, todo: Sequence[Photograph]
    ) -> Generator[None, None, None]:
        """Computes and stores the features of `todo`; yields after each batch."""
        for ones, pixels in decoded.batches(todo):
            for one, row in zip(ones, network(pixels), strict=True):
                self._write(one, row)
            yield

    def read(self, photographs: Sequence[Photograph]) -> NDArray[np.float32]:
        """Reads the features as float32, (n, height, width, channels)."""
        rows = np.empty((len(photographs), *self.shape), np.float32)
        for row, one in zip(rows, photographs, strict=True):
            row[:] = np.fromfile(self._path(one), np.float16).reshape(self.shape)
        return rows

    def _write(self, one: Photograph, row: NDArray[np.float32]) -> None:
        path = self._path(one)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        row.clip(-MAX_VALUE, MAX_VALUE).astype(np.float16).tofile(partial)
        partial.replace(path)

    @property
    def _bytes(self) -> int:
        return 2 * int(np.prod(self.shape))

    def _path(self, one: Photograph) -> Path:
        return self.root / self.key / one.sha256[:2] / f"{one.sha256}{SUFFIX}"
