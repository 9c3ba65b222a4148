"""Takes a saved Keras file apart: its configuration, the loss it names, and where its weights lie."""

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py

from service.errors import CommandError, reason_of
from service.lab.models.archive import CONFIG, MEMBERS, METADATA, WEIGHTS
from service.lab.models.saved import Json, Saved, Unloadable
from service.lab.models.saved.configuration import parsed
from service.lab.models.saved.hdf5 import check_hdf5, group_at, names_attribute, opened, text_attribute
from service.lab.models.saved.layer_changes import KERAS_3, Version
from service.lab.models.saved.loss import Loss, loss_of

# How weights lie in HDF5: by the names of layers (`.h5`), or by their places, as in `.keras` files.
Layout = Literal["names", "places_of_keras_2", "places"]

MAX_TEXT_BYTES = 2**24
GROUP = "model_weights"


@dataclass(frozen=True)
class Parts:
    """A saved model, not yet corrected or built; `values` is how many numbers its weights are."""

    config: Saved
    version: Version
    loss: Loss
    weights: Path
    values: int
    layout: Layout
    group: str = ""


def of_keras(path: Path, folder: Path) -> Parts:
    """The parts of a checked `.keras` file, or of the folder that one unpacks to. Raises Unloadable.

    A file is unpacked to `folder`.
    """
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder, MEMBERS)
        path = folder
    config = parsed((path / CONFIG).read_bytes())
    metadata = _json((path / METADATA).read_bytes())
    version = _version(metadata.get("keras_version") if isinstance(metadata, dict) else None)
    weights = path / WEIGHTS
    return Parts(
        config,
        version,
        loss_of(config.get("compile_config")),
        weights,
        check_hdf5(weights),
        "places_of_keras_2" if version < KERAS_3 else "places",
    )


def of_h5(path: Path, architecture: Path | None, folder: Path) -> Parts:
    """The parts of an `.h5` file, or of one of weights and its architecture. Raises Unloadable.

    A link of the name that Keras wants is put into `folder`.
    """
    values = check_hdf5(path)
    with opened(path) as file:
        _check_maker(file)
        group = GROUP if group_at(file, GROUP) is not None else ""
        has_names = bool(names_attribute(file[group or "/"], "layer_names"))
        told = text_attribute(file, "keras_version")
        text = text_attribute(file, "model_config") or ""
        compiled = text_attribute(file, "training_config")
    config = parsed(_text_in(architecture) if architecture else text)
    version = _version(told or config.get("keras_version") or ("3.99" if "module" in config else None))
    weights = folder / WEIGHTS
    weights.symlink_to(path.resolve())
    layout: Layout = "names" if has_names else "places_of_keras_2" if version < KERAS_3 else "places"
    return Parts(config, version, loss_of(_json(compiled)), weights, values, layout, group)


def _version(told: Json) -> Version:
    """Keras 2 where none is told, because Keras 3 always tells it."""
    found = re.match(r"(\d+)\.(\d+)", str(told))
    return (int(found[1]), int(found[2])) if found else (2, 0)


def _json(text: str | bytes | None) -> Json:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _text_in(architecture: Path) -> bytes:
    try:
        with architecture.open("rb") as file:
            text = file.read(MAX_TEXT_BYTES + 1)
    except OSError as exc:
        raise CommandError(f"{architecture} cannot be read: {reason_of(exc)}.") from exc
    if len(text) > MAX_TEXT_BYTES:
        raise CommandError(f"{architecture} is larger than {MAX_TEXT_BYTES} bytes.")
    return text


def _check_maker(file: h5py.File) -> None:
    """Raises Unloadable where weights mean something else than in TensorFlow's Keras."""
    backend = text_attribute(file, "backend")
    if backend in ("theano", "cntk"):
        raise Unloadable(f"Keras saved it on {backend}, whose weights lie otherwise than TensorFlow's.")
    if str(text_attribute(file, "keras_version")).startswith("1"):
        raise Unloadable("Keras 1 wrote it; load it in Keras 2 and save it again.")
