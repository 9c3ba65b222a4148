"""What every route that takes images has in common, for OpenAPI: its bodies and its failures."""

from typing import Any

from service import errors
from service.api import problems
from service.api.schemas.fields import Fields

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
    """That of a parameter or form field, which is there or not: `null` would be a word."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return {name: said for name, said in schema.items() if name != "anyOf"} | (
        kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
    )


def body_of(kind: type[Fields], max_images: int | None = None) -> dict[str, Any]:
    """The three kinds of body, the last two with these fields beside the images."""
    fields = kind.model_json_schema()["properties"]
    count = {"minItems": 1} | ({"maxItems": max_images} if max_images else {})
    files = {"type": "array", "items": {"type": "string", "format": "binary"}} | count
    base64 = {
        "type": "array",
        "items": {"type": "string", "format": "image"},
        "description": "base64 or data URLs",
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
