"""Renders openapi.yaml from the code; `make openapi` writes it, a test compares it."""

import sys

import yaml

from service.app import create_app
from service.settings import Settings


def render() -> str:
    """The document of an application with default settings."""
    text: str = yaml.safe_dump(
        create_app(Settings()).openapi(), sort_keys=False, allow_unicode=True, width=100
    )
    return text


if __name__ == "__main__":
    sys.stdout.write(render())
