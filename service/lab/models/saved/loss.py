"""Finds out from a saved model's compile configuration what loss it was trained with."""

from dataclasses import dataclass

from service.lab.models.saved import Json


@dataclass(frozen=True)
class Loss:
    """The name in the file, such as "mse" or "BinaryCrossentropy"; None where it names none."""

    name: str | None = None
    is_from_logits: bool = False


def loss_of(compiled: Json) -> Loss:
    """The one loss of a compile configuration of any Keras; of several, none."""
    match compiled.get("loss") if isinstance(compiled, dict) else None:
        case {"class_name": "function", "config": str(name)}:
            return Loss(name)
        case {"class_name": str(name), "config": dict(config)}:
            return Loss(name, config.get("from_logits") is True)
        case str(name):
            return Loss(name)
        case [only]:
            return loss_of({"loss": only})
        case dict(by_output) if len(by_output) == 1:
            return loss_of({"loss": next(iter(by_output.values()))})
    return Loss()
