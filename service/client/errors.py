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
    """Root of what a call raises."""


class WrongUrl(CallFailed):
    """The client was given something that is no URL of a server."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url!r} is not a URL like http://localhost:8000.")


class Unreachable(CallFailed):
    """There is no connection to the server, or it broke off."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"There is no connection to {url}: {reason or 'it broke off'}")


class TimedOut(CallFailed):
    """The answer was not there within the deadline."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(f"{url} did not answer within {timeout_s:g} s.")


class NotUnderstood(CallFailed):
    """Something answered that is not this service, or one of another release."""

    def __init__(self, url: str, answer: str) -> None:
        super().__init__(f"{url} does not answer as resnet-heads does, but with {answer}.")


class Refused(CallFailed):
    """The service answered with a problem document.

    `status` is that of HTTP, `kind` the end of the problem's type (`unknown-head`), `image` the index
    of the image at fault, and `retry_after_s` when to try again, where the service says so.
    """

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        super().__init__(problem.detail)
        self.status = problem.status
        self.kind = problem.type.rpartition(":")[2]
        self.title = problem.title
        self.detail = problem.detail
        self.image = problem.image
        self.retry_after_s = retry_after_s
