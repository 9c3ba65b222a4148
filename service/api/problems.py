"""Maps each error to an HTTP status and to a problem document (RFC 9457), in one table."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from service import errors
from service.api.redact import fit_to_tell

MEDIA_TYPE = "application/problem+json"
FOREIGN_MEDIA_TYPE = "application/json"  # KServe's client reads `error` from this media type only.
INTERNAL = "internal"


@dataclass(frozen=True)
class ProblemRow:
    """The HTTP status of one error, and its status in other protocols, which do not use 422."""

    status: int
    title: str
    foreign_status: int | None = None

    def status_for(self, is_foreign: bool) -> int:
        return (is_foreign and self.foreign_status) or self.status


TABLE: dict[type[errors.RequestError], ProblemRow] = {
    errors.BadParameter: ProblemRow(422, "Bad parameter", 400),
    errors.NoImages: ProblemRow(422, "No image", 400),
    errors.NotAnImage: ProblemRow(422, "Not an image", 400),
    errors.ImageTooLarge: ProblemRow(413, "Too many pixels"),
    errors.TooManyImages: ProblemRow(413, "Too many images"),
    errors.TooManyJobs: ProblemRow(413, "Too many jobs"),
    errors.BodyTooLarge: ProblemRow(413, "Body too large"),
    errors.BodyTooSlow: ProblemRow(408, "Body too slow"),
    errors.ClientGone: ProblemRow(499, "Client closed the connection"),
    errors.NotAuthorized: ProblemRow(401, "Not authorized"),
    errors.UnknownHead: ProblemRow(404, "Unknown head"),
    errors.UnknownVersion: ProblemRow(404, "Unknown version"),
    errors.HeadUnavailable: ProblemRow(503, "Head unavailable"),
    errors.NotReady: ProblemRow(503, "Not ready"),
    errors.TooBusy: ProblemRow(429, "Too busy"),
    errors.DeadlineExceeded: ProblemRow(504, "Deadline exceeded"),
    errors.EngineFailed: ProblemRow(500, "Engine failed"),
    errors.CannotExplain: ProblemRow(422, "Cannot explain"),
    errors.NoReport: ProblemRow(404, "No report"),
    errors.BenchmarkRunning: ProblemRow(409, "Benchmark running"),
    errors.TooLittleMemory: ProblemRow(409, "Too little memory"),
    errors.BenchmarkFailed: ProblemRow(503, "Benchmark failed"),
}

IMAGE_ERRORS = (errors.NotAnImage, errors.ImageTooLarge)
BODY_ERRORS = (
    errors.NoImages,
    errors.TooManyImages,
    errors.TooManyJobs,
    errors.BodyTooLarge,
    errors.BodyTooSlow,
)
HEAD_ERRORS = (errors.UnknownHead, errors.UnknownVersion, errors.HeadUnavailable, errors.NotReady)
ENGINE_ERRORS = (errors.TooBusy, errors.DeadlineExceeded, errors.EngineFailed)

FOREIGN = ("/v1/", "/v2/")  # The routes of other servers' protocols start with these.

# The connection is closed after these errors, because nobody reads the rest of the body.
CLOSING = (errors.BodyTooLarge, errors.BodyTooSlow)


class ProblemResponse(JSONResponse):
    """A problem document. It stores its kind in the request's state, for the metrics of the Edge."""

    def __init__(self, kind: str, content: dict[str, object], status: int, is_foreign: bool) -> None:
        super().__init__(content, status, media_type=_media_type(is_foreign))
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["problem"] = self._kind
        await super().__call__(scope, receive, send)


def documented(
    *leaves: type[errors.RequestError], is_foreign: bool = False
) -> dict[int | str, dict[str, Any]]:
    """The `responses` argument of a route that may raise these errors, for its OpenAPI description."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    titles: dict[int, list[str]] = {}
    for leaf in leaves:
        row = TABLE[leaf]
        titles.setdefault(row.status_for(is_foreign), []).append(row.title)
    return {
        status: {"description": " / ".join(titles[status]), "content": {_media_type(is_foreign): schema}}
        for status in sorted(titles)
    }


def respond(
    status: int, kind: str, title: str, detail: str, is_foreign: bool = False, **more: object
) -> JSONResponse:
    """Builds a problem document; `kind` is the last part of its type URI."""
    content = {
        "type": f"urn:resnet-heads:problem:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "error": detail,
    }
    return ProblemResponse(kind, content | more, status, is_foreign)


def answer(exc: errors.RequestError, is_foreign: bool = False) -> JSONResponse:
    """The problem document of an error, with the headers that go with it."""
    row = TABLE[type(exc)]
    more = {"image": exc.index} if isinstance(exc, errors.ImageError) else {}
    detail = fit_to_tell(str(exc))
    status = row.status_for(is_foreign)
    response = respond(status, _kind(type(exc)), row.title, detail, is_foreign, **more)
    is_closing = isinstance(exc, CLOSING)
    if isinstance(exc, errors.TooBusy):
        response.headers["Retry-After"] = str(exc.retry_after_s)
        is_closing = exc.is_in_body
    if isinstance(exc, errors.NotAuthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    if is_closing:
        response.headers["Connection"] = "close"
    return response


def unexpected() -> JSONResponse:
    """Answers an internal error with 500. Its cause is only logged."""
    return respond(500, INTERNAL, "Internal error", "The service failed; its log says why.")


def answer_errors(app: FastAPI) -> None:
    """Registers handlers that turn every error of a route of `app` into a problem document.

    The handlers are coroutines, because Starlette runs plain functions in a thread.
    """
    app.add_exception_handler(errors.RequestError, _request_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)


async def _request_error(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, errors.RequestError)  # noqa: S101 (narrows the handler's declared type)
    return answer(exc, is_foreign(request.scope))


async def _validation_error(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)  # noqa: S101 (narrows the handler's declared type)
    told = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in exc.errors())
    return await _request_error(request, errors.BadParameter(f"{told}."))


async def _http_exception(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, HTTPException)  # noqa: S101 (narrows the handler's declared type)
    detail = str(exc.detail)
    # The kind comes from the status, so that there are few kinds.
    kind = HTTPStatus(exc.status_code).phrase.lower().replace(" ", "-")
    response = respond(exc.status_code, kind, detail, detail, is_foreign(request.scope))
    response.headers.update(exc.headers or {})
    if exc.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods(request)):
        response.headers["Allow"] = ", ".join(methods)
    return response


def is_foreign(scope: Scope) -> bool:
    """Whether a request is for a route of another server's protocol (/v1 or /v2)."""
    return str(getattr(scope.get("route"), "path", scope["path"])).startswith(FOREIGN)


def _media_type(is_foreign: bool) -> str:
    return FOREIGN_MEDIA_TYPE if is_foreign else MEDIA_TYPE


def _methods(request: Request) -> list[str]:
    """The methods of every documented route at this path; Starlette names only the first route's."""
    path = getattr(request.scope.get("route"), "path", "")
    alike = [route for route in iter_route_contexts(request.app.routes) if route.path == path]
    told = [route for route in alike if route.include_in_schema] or alike
    return sorted(method for route in told for method in route.methods or ())


def _kind(leaf: type[errors.RequestError]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", leaf.__name__).lower()


KINDS = (*map(_kind, TABLE), INTERNAL, "not-found", "method-not-allowed")
