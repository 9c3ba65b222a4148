"""Completes FastAPI's OpenAPI document: adds what FastAPI cannot infer, removes its own 422 answers."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic.json_schema import models_json_schema
from starlette.routing import Route

from service import errors
from service.api import problems
from service.api.protocols.v1.messages import PredictRequest
from service.api.protocols.v2.messages import InferenceRequest
from service.api.schemas.fields import Fields
from service.api.schemas.results import Problem

_LEAVES = (
    *problems.IMAGE_ERRORS,
    *problems.BODY_ERRORS,
    *problems.HEAD_ERRORS,
    *problems.ENGINE_ERRORS,
    errors.BadParameter,
    errors.NotAuthorized,
)
FAILURES = problems.documented(*_LEAVES)
FOREIGN_FAILURES = problems.documented(*_LEAVES, is_foreign=True)
ABOUT_A_HEAD = problems.documented(
    *problems.HEAD_ERRORS, errors.BadParameter, errors.NotAuthorized, is_foreign=True
)


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Removes `null` from a parameter's schema: a query parameter is absent, never null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return {name: said for name, said in schema.items() if name != "anyOf"} | (
        kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
    )


def body_of(kind: type[Fields], max_images: int | None = None) -> dict[str, Any]:
    """Describes the three kinds of request body; multipart and JSON may hold these fields as well."""
    fields = kind.model_json_schema()["properties"]
    count = {"minItems": 1} | ({"maxItems": max_images} if max_images else {})
    files = {"type": "array", "items": {"type": "string", "format": "binary"}} | count
    base64 = {
        "type": "array",
        "items": {"type": "string", "format": "image"},
        "description": "The image files, as base64 or data URLs.",
    } | count

    texts = {name: without_null(field) for name, field in fields.items()}

    def form(name: str, images: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
        properties = {name: images} | fields
        return {
            "schema": {
                "type": "object",
                "properties": properties,
                "required": [name],
                "additionalProperties": False,
            }
        }

    content = {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": form("file", files, texts),
        "application/json": form("images", base64, fields),
    }
    return {"requestBody": {"required": True, "content": content}}


PATH = "/openapi.json"
SCHEMES = {
    "APIKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "HTTPBearer": {"type": "http", "scheme": "bearer"},
}
UNAUTHORIZED = "401"
UNREAD = (Problem, PredictRequest, InferenceRequest)


def either_key() -> list[dict[str, list[str]]]:
    """Says of an operation that it needs a key, in one of the two headers."""
    return [{name: []} for name in SCHEMES]


def describe(app: FastAPI) -> None:
    """Makes `app` serve this document, which is built in a thread at the first request."""

    def document(request: Request) -> JSONResponse:
        prefix = request.scope.get("root_path", "").rstrip("/")
        return JSONResponse(app.openapi() | ({"servers": [{"url": prefix}]} if prefix else {}))

    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]  # FastAPI's documented way
    # Insert it before FastAPI's own route, which would build the document on the event loop.
    app.routes.insert(0, Route(PATH, document, include_in_schema=False))


def _describe(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = document["components"]["schemas"]
        _, made = models_json_schema(
            [(model, "validation") for model in UNREAD], ref_template="#/components/schemas/{model}"
        )
        components |= made["$defs"]
        for unused in ("HTTPValidationError", "ValidationError"):
            components.pop(unused, None)
        document["components"]["securitySchemes"] = SCHEMES
        for item in document["paths"].values():
            for operation in item.values():
                if UNAUTHORIZED in operation["responses"]:
                    operation.setdefault("security", either_key())
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = without_null(parameter["schema"])
                # FastAPI's 422 is never sent: a problem replaces it, and path parameters are plain text.
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        app.openapi_schema = document
    return app.openapi_schema
