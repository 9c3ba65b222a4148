"""The requests of one call and the parsing of its answers, without I/O (sans-I/O)."""

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar

import httpx
from pydantic import ValidationError

from service.api.schemas.results import Problem
from service.benchmark.report import Progress
from service.client.calls import EVENTS, JSON, Call, OnProgress, content
from service.client.errors import NotUnderstood, Refused, TimedOut, Unreachable
from service.serving.deadline import Deadline

T = TypeVar("T")

PROBLEM = "application/problem+json"
BUSY = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
MIN_WAIT_S = 0.1  # A client must not ask in a tight loop if a server says 0.


class Answer:
    """A response that is being received. The last event of an event stream is its content."""

    def __init__(self, response: httpx.Response, deadline: Deadline, on_progress: OnProgress) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.media_type = response.headers.get("content-type", "").partition(";")[0].lower()
        self.body = b""
        self._rest = b""
        self._deadline = deadline
        self._on_progress = on_progress

    def feed(self, chunk: bytes) -> None:
        """Adds the next bytes of the body. Raises TimeoutError after the deadline."""
        if self._deadline.left_s() <= 0:
            raise TimeoutError
        if self.media_type != EVENTS:
            self.body += chunk
            return
        *events, self._rest = (self._rest + chunk).split(b"\n\n")
        for event in events:
            self._hear(event)

    def _hear(self, event: bytes) -> None:
        fields = dict(line.partition(b": ")[::2] for line in event.splitlines())
        if fields.get(b"event") == b"progress":
            self._on_progress(Progress.model_validate_json(fields[b"data"]))
        elif b"data" in fields:
            self.body = fields[b"data"]
            self.media_type = PROBLEM if fields[b"event"] == b"problem" else JSON

    def retry_after_s(self) -> float | None:
        """The seconds to wait by Retry-After, a number or a date; None without the header."""
        told = self.headers.get("retry-after", "")
        if told.isdecimal():
            return float(told)
        try:
            return (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return None

    def __str__(self) -> str:
        to = f" to {self.headers['location']}" if "location" in self.headers else ""
        phrase = httpx.codes.get_reason_phrase(self.status)
        return f"{self.status} {phrase}{to} ({self.media_type or 'no content type'})"


class Exchange(Generic[T]):
    """A call with its deadline, which covers all attempts."""

    def __init__(self, call: Call[T], url: str, timeout_s: float) -> None:
        """Reads the images and starts the deadline. Raises OSError."""
        self._call = call
        self._url = url
        self._id = uuid.uuid4().hex
        self._images = [content(image) for image in call.images]
        self.deadline = Deadline.after(timeout_s if call.timeout_s is None else call.timeout_s)

    def request(self) -> dict[str, Any]:
        """The arguments of the request for httpx, with the remaining time as its timeout."""
        left_s = max(self.deadline.left_s(), 1e-3)
        return {
            "method": self._call.method,
            "url": self._call.path,
            "params": [(name, value) for name, value in self._call.query if value is not None],
            "headers": {
                "Accept": self._call.accept,
                "X-Request-ID": self._id,
                "X-Request-Timeout-Ms": str(round(1e3 * left_s)),
            },
            "files": [("file", ("image", image)) for image in self._images],
            "json": self._call.json,
            "timeout": left_s,
        }

    def answer(self, response: httpx.Response) -> Answer:
        """Returns an Answer that receives this response."""
        return Answer(response, self.deadline, self._call.on_progress)

    def wait_s(self, answer: Answer) -> float | None:
        """The seconds until the next attempt; None if there is none."""
        asked_s = answer.retry_after_s()
        if answer.status not in BUSY or asked_s is None:
            return None
        wait_s = max(asked_s, MIN_WAIT_S)
        return wait_s if wait_s < self.deadline.left_s() else None

    def result(self, answer: Answer) -> T:
        """Parses the answer. Raises Refused or NotUnderstood."""
        wanted = JSON if self._call.accept == EVENTS else self._call.accept
        try:
            if answer.media_type == PROBLEM:
                problem = Problem.model_validate_json(answer.body)
                raise Refused(problem, answer.retry_after_s())
            if answer.status == httpx.codes.OK and answer.media_type == wanted:
                return self._call.read(answer.body)
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise NotUnderstood(self._url, f"{answer} of another form: {where} {first['msg']}") from exc
        raise NotUnderstood(self._url, str(answer))

    @contextmanager
    def failures(self) -> Generator[None, None, None]:
        """Translates errors of httpx to TimedOut or Unreachable."""
        try:
            yield
        except (httpx.TimeoutException, TimeoutError) as exc:
            raise TimedOut(self._url, self.deadline.timeout_s) from exc
        except httpx.HTTPError as exc:
            raise Unreachable(self._url, str(exc)) from exc
