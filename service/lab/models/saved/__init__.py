"""What a saved Keras file of any age holds, as data: its configuration and its weights."""

from typing import Any

Json = Any
Saved = dict[str, Json]  # A model or a layer of a configuration: its class, its settings, its calls.


class Unloadable(ValueError):
    """A file cannot become a model; the text is the reason, after "NAME cannot be loaded: "."""
