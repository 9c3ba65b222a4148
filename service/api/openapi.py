"""The OpenAPI document: FastAPI's, with what it does not read itself and without its own 422."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic.json_schema import models_json_schema
from starlette.routing import Route

from service.api.images import without_null
from service.api.protocols.v1.messages import PredictRequest
from service.api.protocols.v2.messages import InferenceRequest
from service.api.schemas.results import Problem

PATH = "/openapi.json"
UNREAD = (Problem, PredictRequest, InferenceRequest)


def install(app: FastAPI) -> None:
    """Makes `app` describe itself so: when first asked, and in a thread."""

    def document(request: Request) -> JSONResponse:
        prefix = request.scope.get("root_path", "").rstrip("/")
        return JSONResponse(app.openapi() | ({"servers": [{"url": prefix}]} if prefix else {}))

    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]  # FastAPI's documented way
    app.routes.insert(0, Route(PATH, document, include_in_schema=False))  # before FastAPI's coroutine


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
        for item in document["paths"].values():
            for operation in item.values():
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = without_null(parameter["schema"])
                # in its place is a problem, or none: a path is any text
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        app.openapi_schema = document
    return app.openapi_schema
