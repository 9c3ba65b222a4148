"""Why a call of the client got no answer. `str(error)` is one sentence, as of every ServiceError.

CallFailed
├── WrongUrl         it is no URL of a server
├── Unreachable      no connection, or one that broke off
├── TimedOut         no answer within the deadline
├── NotUnderstood    what answered is not this service
└── Refused          the service says why it does not answer: see its attributes
"""

from service.api.schemas.results import Problem
from service.errors import ServiceError


class CallFailed(ServiceError):
    """Base class of the errors of a call."""


class WrongUrl(CallFailed):
    """The client was given something that is no URL of a server."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url!r} is not a URL like http://localhost:8000.")


class Unreachable(CallFailed):
    """The server cannot be reached, or the connection broke off."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"There is no connection to {url}: {reason or 'it was closed'}")


class TimedOut(CallFailed):
    """The answer did not arrive within the deadline."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(f"{url} did not answer within {timeout_s:g} s.")


class NotUnderstood(CallFailed):
    """The answer is not from this service, or from another release of it."""

    def __init__(self, url: str, answer: str) -> None:
        super().__init__(f"{url} does not answer as resnet-heads does, but with {answer}.")


class Refused(CallFailed):
    """The service answered with a problem document.

    `status` is the HTTP status, `kind` the last part of the problem's type (`unknown-head`), `image` the
    index of the image at fault, and `retry_after_s` the seconds to wait, if the service gives them.
    """

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        super().__init__(problem.detail)
        self.status = problem.status
        self.kind = problem.type.rpartition(":")[2]
        self.title = problem.title
        self.detail = problem.detail
        self.image = problem.image
        self.retry_after_s = retry_after_s
