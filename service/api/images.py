"""What every route that takes images has in common, for OpenAPI: its bodies and its failures."""

from typing import Any

from service import errors
from service.api import problems
from service.api.fields import Fields

FAILURES = problems.documented(
    *problems.IMAGE_ERRORS,
    *problems.BODY_ERRORS,
    *problems.HEAD_ERRORS,
    *problems.ENGINE_ERRORS,
    errors.BadParameter,
    errors.NotAuthorized,
)


def body_of(kind: type[Fields]) -> dict[str, Any]:
    """The three kinds of body, the last two with these fields beside the images."""
    fields = kind.model_json_schema()["properties"]
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    base64 = {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "description": "base64 or data URLs",
    }

    def form(name: str, images: dict[str, Any]) -> dict[str, Any]:
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
        "multipart/form-data": form("file", files),
        "application/json": form("images", base64),
    }
    return {"requestBody": {"required": True, "content": content}}
