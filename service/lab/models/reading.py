"""Reads saved models as untrusted files: in Keras' safe mode, with one sentence for each refusal."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import keras

from service.errors import CommandError
from service.lab.models.archive import check_archive

MADE_UP = "freshly-initialized weights"


@dataclass(frozen=True)
class Loaded:
    """A model in Keras of today; `notes` say what was changed on the way, a sentence each."""

    model: keras.Model
    loss: str | None = None
    is_from_logits: bool = False
    notes: tuple[str, ...] = ()


def load(path: Path) -> Loaded:
    return Loaded(load_model(path))


def load_model(path: Path) -> keras.Model:
    """Loads the model of a `.keras` file. Raises CommandError for anything else."""
    if not path.exists():
        raise CommandError(f"There is no file {path}.")
    if path.suffix != ".keras" or path.is_dir():
        raise CommandError(
            f"{path.name} is not a Keras 3 file; load it where it was made and save it as NAME.keras."
        )
    check_archive(path)
    try:
        with warnings.catch_warnings():
            # Where weights are missing, Keras may only warn that it initialised them at random.
            warnings.filterwarnings("error", message=f".*{MADE_UP}")
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as exc:  # A broken file may make Keras raise anything.
        raise CommandError(f"{path.name} cannot be loaded: {_reason(str(exc))}") from exc


def _reason(message: str) -> str:
    """Shortens Keras' multi-line messages to one sentence for the common causes."""
    if "Lambda" in message:
        return "it holds a Lambda layer, which could run any code, and safe mode refuses it."
    if "Could not locate" in message or "not registered" in message:
        return "it holds a custom object, which only the code it was written with can load."
    if MADE_UP in message or "objects could not be loaded" in message:
        return "the weights in it are not those of its layers."
    first = message.strip().splitlines()[0] if message.strip() else "no reason given"
    return f"{first.rstrip('.')}."
