"""Everything this service raises on purpose. Ignorant of HTTP: statuses are chosen in api/problems.py.

ServiceError
├── RequestError            this request cannot be answered; each leaf has a row in api/problems.py
│   ├── BadParameter, NoImages, TooManyImages, TooManyJobs, NotAnImage, ImageTooLarge
│   ├── BodyTooLarge, BodyTooSlow, ClientGone, NotAuthorized
│   ├── UnknownHead, UnknownVersion, HeadUnavailable, NotReady
│   ├── TooBusy, DeadlineExceeded, EngineFailed, CannotExplain
│   └── NoReport, BenchmarkRunning, TooLittleMemory, BenchmarkFailed
├── VersionError            this version cannot be served; becomes a reason in GET /heads
│   ├── GoldenCheckFailed   it computes something else than its card says
│   └── RebuildInterrupted  the process that compiled it was killed, late, or short of something
├── CommandError            this command cannot be done; one sentence and exit code 2
└── CallFailed              a client got no answer; the leaves are in client/errors.py
"""

import errno
import os
import re

WRONG_PATHS = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
SHORTAGES = (errno.ENOMEM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSPC)
IN_WORDS = ("bad_alloc", "iostream error", "(?i:(failed|unable) to allocate|out of memory|oom when)")
SHORTAGE = re.compile("|".join([*map(os.strerror, SHORTAGES), *IN_WORDS]))


class ServiceError(Exception):
    """The base class; `str(error)` is one sentence that a person can act on."""


class RequestError(ServiceError):
    """A request that cannot be answered as asked."""


class BadParameter(RequestError):
    """A parameter, header or body field is missing, malformed or out of range."""


class NoImages(RequestError):
    """The body holds no image."""

    def __init__(self) -> None:
        super().__init__("The request holds no image.")


class TooManyImages(RequestError):
    """The body holds more images than one request may."""

    def __init__(self, images: int, limit: int) -> None:
        super().__init__(f"The request holds {images} images; at most {limit} are allowed.")


class TooManyJobs(RequestError):
    """The request asks for more passes than one request may."""

    def __init__(self, jobs: int, limit: int) -> None:
        super().__init__(
            f"The request asks for {jobs} passes (images x offsets x backbones); at most {limit} are "
            "allowed: send fewer images or offsets, or name fewer heads."
        )


class ImageError(RequestError):
    """One image of the request is at fault; `index` counts from 0 and is set by the classifier."""

    def __init__(self, reason: str, index: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.index = index

    def __str__(self) -> str:
        return f"Image {self.index}: {self.reason}"


class NotAnImage(ImageError):
    """The data is not an image of an accepted format, or is damaged."""


class ImageTooLarge(ImageError):
    """The image has more pixels than `max_image_pixels`."""


class BodyTooLarge(RequestError):
    """The body exceeds `max_body_bytes`."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than the limit of {limit} bytes.")


class BodyTooSlow(RequestError):
    """The body took longer than `body_timeout_s`, or was slow while others needed its memory."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The body is too slow: {reason}")


class ClientGone(RequestError):
    """The client hung up before its answer was ready."""

    def __init__(self) -> None:
        super().__init__("The client closed the connection.")


class NotAuthorized(RequestError):
    """The key is missing or wrong, and `api_keys` is set."""

    def __init__(self) -> None:
        super().__init__("A valid API key is required.")


class UnknownHead(RequestError):
    """The store has no head of that name."""

    def __init__(self, head: str, known: list[str]) -> None:
        have = ", ".join(known) if known else "none"
        super().__init__(f"There is no head named {head!r}; heads in the store: {have}.")


class UnknownVersion(RequestError):
    """This version of the head is not loaded."""

    def __init__(self, head: str, version: int, loaded: list[int]) -> None:
        have = ", ".join(map(str, loaded)) if loaded else "none"
        super().__init__(f"Version {version} of head {head!r} is not loaded; loaded: {have}.")


class HeadUnavailable(RequestError):
    """The head is in the store, but no version of it could be loaded."""

    def __init__(self, head: str, reason: str) -> None:
        super().__init__(f"Head {head!r} is not available: {reason}")


class NotReady(RequestError):
    """Heads are still loading, or a required one is missing."""


class TooBusy(RequestError):
    """The service is overloaded; `is_in_body` is set if the client is still sending its body."""

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(f"{reason} Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s
        self.is_in_body = False


class DeadlineExceeded(RequestError):
    """The request was admitted, but not finished within its deadline."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"The request was not finished within its {timeout_s:g} seconds.")


class EngineFailed(RequestError):
    """The engine raised an error. The request is not at fault; the log has the cause."""

    def __init__(self) -> None:
        super().__init__("The engine failed on this request; the service's log says why.")


class CannotExplain(RequestError):
    """The head has no exact evidence map."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"This head cannot be explained exactly: {reason}")


class NoReport(RequestError):
    """This host has no benchmark report yet."""

    def __init__(self) -> None:
        super().__init__(
            "This host has no report yet; POST /benchmark makes one, and so does: resnet-heads benchmark"
        )


class BenchmarkRunning(RequestError):
    """Another benchmark is running, and only one may run at a time."""

    def __init__(self) -> None:
        super().__init__("A benchmark is running already; try again when it has ended.")


class TooLittleMemory(RequestError):
    """The processes of a benchmark might not fit into memory."""

    def __init__(self, needed_mb: float, available_mb: float) -> None:
        super().__init__(
            f"There is too little memory for the benchmark: it needs about {needed_mb:.0f} MB and "
            f"{available_mb:.0f} MB are available; measure fewer heads or smaller batches."
        )


class BenchmarkFailed(RequestError):
    """A child process of the benchmark ended early, timed out, or was stopped."""


class VersionError(ServiceError):
    """A version in the store cannot be served; the text is its reason in `GET /heads`."""


class GoldenCheckFailed(VersionError):
    """A version's answer to its golden image differs from that in its card."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"golden check: {reason}")


class RebuildInterrupted(VersionError):
    """The compiled files of a version are missing, and rebuilding them was interrupted."""


class CommandError(ServiceError):
    """A command cannot be done; the command line prints the text and exits with 2."""


def is_transient(exc: BaseException) -> bool:
    """Whether a retry may succeed: the error or its cause is a lack of memory or an I/O error."""
    if isinstance(exc, MemoryError | RebuildInterrupted):
        return True
    if isinstance(exc, OSError) and exc.errno not in WRONG_PATHS:
        return True
    if not isinstance(exc, ServiceError) and SHORTAGE.search(str(exc)):
        return True
    origin = exc.__cause__ or exc.__context__
    return origin is not None and is_transient(origin)


def reason_of(exc: OSError) -> str:
    """The system's reason, without the file name. An OSError made from a text has no `strerror`."""
    return exc.strerror or str(exc) or type(exc).__name__
