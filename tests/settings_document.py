"""Renders docs/settings.md from the code; `make docs` writes it, a test compares it."""

import sys

from pydantic.fields import FieldInfo

from service.cli.arguments import ENVIRONMENT_ONLY
from service.settings import Settings

INTRODUCTION = """\
# Settings

Each setting is an environment variable, `RESNET_HEADS_PORT=9000 make run`, and a flag,
`resnet-heads serve --port 9000`. Lists are comma-separated. Keys ({environment_only}) are read from the
environment only, because flags show in process lists. [Size it](deploy.md#size-it) says when to change
which.

| setting | default | what it is |
|---|---|---|
"""


def render() -> str:
    """The document of the settings that the code has, in their order."""
    secret = ", ".join(f"`{name}`" for name in Settings.model_fields if name in ENVIRONMENT_ONLY)
    rows = (
        f"| `{name}` | {_default(field)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )
    return INTRODUCTION.format(environment_only=secret) + "".join(rows)


def _default(field: FieldInfo) -> str:
    """As one would write it in the environment; nothing for what is empty."""
    if field.default in (None, "", (), {}):
        return ""
    shown = str(field.default)
    return f"`{shown.lower() if isinstance(field.default, bool) else shown}`"


if __name__ == "__main__":
    sys.stdout.write(render())
