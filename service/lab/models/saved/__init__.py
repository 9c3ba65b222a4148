"""What a saved Keras file of any age holds, as data: its configuration and its weights."""

from typing import Any

Json = Any
Saved = dict[str, Json]  # A model or a layer of a configuration: its class, its settings, its calls.


OTHERS = "the weights in it are not those of its layers; save it again where it was made."


class Unloadable(ValueError):
    """A file cannot become a model; the text is the reason, after "NAME cannot be loaded: "."""
