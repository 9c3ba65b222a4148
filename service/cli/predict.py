"""`resnet-heads predict`: sends pictures in files and folders to a server, and prints its answers."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from service.api.schemas.results import Prediction
from service.client import Client, Refused
from service.console import columns, say, show_table, track, wide_console
from service.errors import CommandError, reason_of

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
FILES_PER_REQUEST = 8  # One batch of a server with default settings.
BYTES_PER_REQUEST = 16 * 2**20  # Half of what such a server takes.

TOO_MUCH = 413  # The request is too large; one with fewer files may do.
FOR_ALL = (401, 403, 404, 503)  # Any other file would get the same status.


class Outcome(BaseModel):
    """The result of one file: ranked classes by head, or the reason why it has none or no map."""

    model_config = ConfigDict(frozen=True)

    file: Path
    predictions: dict[str, list[Prediction]] = Field(default_factory=dict)
    agree: bool | None = None
    failed: str | None = None


@dataclass(frozen=True)
class Asking:
    """The request for each file. No `heads`: the default one; `maps` is a folder for evidence maps."""

    client: Client
    heads: Sequence[str] = ()
    top_k: int = 1
    maps: Path | None = None

    def outcomes(self, files: Sequence[Path]) -> Iterator[Outcome]:
        """Yields the outcome of each file in order. Raises CallFailed if every other would fail too."""
        start = Path(os.path.commonpath([os.path.abspath(file.parent) for file in files]))
        for batch in _batches(files):
            for outcome in self._ask(batch):
                yield self._explained(outcome, start) if self.maps else outcome

    def _ask(self, batch: Sequence[Path]) -> Iterator[Outcome]:
        """Sends the batch in one request; if one file is refused, sends the others again without it."""
        if not batch:
            return
        try:
            answers = list(self._answers(batch))
        except OSError as exc:
            yield from self._ask_without(batch, batch.index(Path(exc.filename)), reason_of(exc))
        except Refused as exc:
            if exc.status in FOR_ALL or exc.kind == "bad-parameter":
                raise
            if exc.image is not None:
                reason = exc.detail.removeprefix(f"Image {exc.image}: ")
                yield from self._ask_without(batch, exc.image, reason)
            elif exc.status == TOO_MUCH and len(batch) > 1:
                yield from self._ask(batch[: len(batch) // 2])
                yield from self._ask(batch[len(batch) // 2 :])
            else:
                yield from (Outcome(file=file, failed=exc.detail) for file in batch)
        else:
            yield from answers

    def _ask_without(self, batch: Sequence[Path], index: int, reason: str) -> Iterator[Outcome]:
        yield from self._ask(batch[:index])
        yield Outcome(file=batch[index], failed=reason)
        yield from self._ask(batch[index + 1 :])

    def _answers(self, batch: Sequence[Path]) -> Iterator[Outcome]:
        if len(self.heads) > 1:
            compared = self.client.compare(*batch, heads=self.heads, top_k=self.top_k)
            for file, of_file in zip(batch, compared.results, strict=True):
                yield Outcome(file=file, predictions=of_file.predictions, agree=of_file.agree)
        else:
            head = self.heads[0] if self.heads else None
            predicted = self.client.predict(*batch, head=head, top_k=self.top_k)
            for file, result in zip(batch, predicted.results, strict=True):
                yield Outcome(file=file, predictions={predicted.head: result.predictions})

    def _explained(self, outcome: Outcome, start: Path) -> Outcome:
        """Writes the map of each head to `maps`, at the file's path relative to `start`."""
        assert self.maps is not None  # noqa: S101 (else nobody asks)
        place = self.maps / Path(os.path.abspath(outcome.file)).relative_to(start)
        try:
            for head in outcome.predictions:
                map_ = self.client.explain_png(outcome.file, head=head)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.with_name(f"{place.name}.{head}.png").write_bytes(map_)
        except Refused as exc:
            if exc.status in FOR_ALL:
                raise
            return outcome.model_copy(update={"failed": f"no map: {exc}"})
        return outcome


def predict_files(asking: Asking, paths: Sequence[Path], as_json: bool) -> int:
    """Prints the outcomes, and why some failed. Returns the exit code: 1 if any failed.

    Raises CommandError or OSError before the first request, and CallFailed when the rest would fail too,
    after the known outcomes were printed.
    """
    files = find(paths)
    if asking.maps:
        asking.maps.mkdir(parents=True, exist_ok=True)
    steps = asking.outcomes(files)
    if len(files) > FILES_PER_REQUEST:
        steps = track(steps, len(files), "Predicting")
    outcomes = []
    try:
        for outcome in steps:
            outcomes.append(outcome)
            if outcome.failed:
                say(f"{outcome.file}: {outcome.failed}")
    finally:
        _show(outcomes, as_json)
    return int(any(outcome.failed for outcome in outcomes))


def find(paths: Iterable[Path]) -> list[Path]:
    """The files, and all pictures in folders but hidden ones. Raises CommandError if there are none."""
    files: list[Path] = []
    for path in paths:
        inside = list(_pictures(path)) if path.is_dir() else [path]
        if not inside:
            raise CommandError(f"There are no pictures in {path}.")
        files += inside
    return files


def _pictures(folder: Path) -> Iterator[Path]:
    for at, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(at, name)


def _batches(files: Iterable[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for file in files:
        more = file.stat().st_size if file.is_file() else 0
        if batch and (len(batch) == FILES_PER_REQUEST or size + more > BYTES_PER_REQUEST):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += more
    yield batch


def _show(outcomes: Sequence[Outcome], as_json: bool) -> None:
    console = wide_console()
    if as_json:
        console.out(TypeAdapter(list[Outcome]).dump_json(list(outcomes), indent=1).decode())
        return
    is_compared = any(outcome.agree is not None for outcome in outcomes)
    names = ["head", "label", "probability", *(["heads agree"] if is_compared else [])]
    table = columns("file", *names, left=("head", "label"))
    for outcome in outcomes:
        agree = {None: [], True: ["yes"], False: ["no"]}[outcome.agree]
        for head, ranked in outcome.predictions.items():
            for one in ranked:
                table.add_row(str(outcome.file), head, one.label, f"{one.probability:.3f}", *agree)
    show_table(console, table)
