"""Tells by its content what a person brings as a saved model. Imports neither TensorFlow nor Keras."""

import json
import re
import zipfile
from pathlib import Path

import h5py

from service.errors import CommandError, reason_of
from service.lab.models.archive import MEMBERS
from service.store.card import Format

GRAPH = "saved_model.pb"
HDF5 = b"\x89HDF\r\n\x1a\n"
USER_BLOCKS = (0, 512, 1024, 2048, 4096)
HEAD_BYTES = 5000
MAX_NAME = 80
MAX_JSON_BYTES = 2**24

SAVE_WHOLE = "save the whole model where it was made, model.save('NAME.keras'), and import that"
WEIGHTS_ONLY = f"holds weights and no model; {SAVE_WHOLE}."
WITH_LAYERS = (
    "holds weights and no model; add --architecture FILE.json, from model.to_json() where it was made, "
    "or save the whole model there, model.save('NAME.keras')."
)
PYTORCH = f"is a PyTorch model; only Keras' are read: {SAVE_WHOLE}."
PACKED = "is a packed folder; unpack it, and import the model in it."
PICKLE = f"is a pickle, which could run any code when it is read; {SAVE_WHOLE}."
ARRAYS = f"holds arrays and no model; {SAVE_WHOLE}."
WEB_PAGE = "is a web page and not the model; download it again."
LAYERS_ONLY = "holds the layers of a model without weights; import the weights, with --architecture."
TEXT = "is a text file and no model; a .keras or .h5 file or a SavedModel's folder is read."
UNKNOWN = (
    "is no saved model that is known here, or a damaged one; a .keras or .h5 file or a SavedModel's "
    "folder is read."
)

# What is no model of Keras: by the bytes from an offset, then by the name.
SIGNATURES = (
    (4, b"TFL3", f"is a TensorFlow Lite model, which cannot be turned back; {SAVE_WHOLE}."),
    (0, b"version https://git-lfs", "is a Git LFS pointer and not the model; fetch that: git lfs pull."),
    (0, b"\x80\x02\x8a\nl\xfc\x9c", PYTORCH),
    (0, b"\x93NUMPY", ARRAYS),
    *((0, bytes([0x80, protocol]), PICKLE) for protocol in range(2, 6)),
    *((0, start, WEB_PAGE) for start in (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML")),
    *((0, start, PACKED) for start in (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")),
    (257, b"ustar", PACKED),
)
NAMES = (
    (r"checkpoint|.*\.index|.*\.data-\d+-of-\d+", WEIGHTS_ONLY),
    (re.escape(GRAPH), "is a part of a SavedModel; import the folder that it lies in."),
    (r".*\.onnx", f"is an ONNX model; only Keras' are read: {SAVE_WHOLE}."),
    (r".*\.pb", f"is a frozen graph, which is not read; {SAVE_WHOLE}."),
    (r".*\.keras", "is no Keras 3 file, or a damaged one: it is no zip archive."),
)


def recognise(path: Path, *, has_architecture: bool = False) -> Format:
    """The format of a model. Raises CommandError, with the next step, for anything else.

    With `has_architecture`, an HDF5 file of weights alone is `h5` as well.
    """
    try:
        if path.is_dir():
            return _of_folder(path)
        if path.is_file():
            return _of_file(path, has_architecture)
        is_prefix = path.with_name(f"{path.name}.index").is_file()
    except OSError as exc:
        raise CommandError(f"{name_of(path)} cannot be read: {reason_of(exc)}.") from exc
    if is_prefix:
        raise _refusal(path, WEIGHTS_ONLY)
    raise CommandError(f"There is no file {path}.")


def name_of(path: Path) -> str:
    """The name of a file, short enough for a sentence."""
    return path.name if len(path.name) <= MAX_NAME else f"{path.name[: MAX_NAME - 3]}..."


def _refusal(path: Path, told: str) -> CommandError:
    return CommandError(f"{name_of(path)} {told}")


def _of_folder(path: Path) -> Format:
    names = {one.name for one in path.iterdir()}
    if GRAPH in names:
        return "saved_model"
    missing = sorted(set(MEMBERS) - names)
    if not missing:
        return "keras"
    if "checkpoint" in names or any(name.endswith(".index") for name in names):
        raise _refusal(path, WEIGHTS_ONLY)
    if len(missing) < len(MEMBERS):
        raise _refusal(path, f"is an unpacked .keras file without {missing[0]}; import the file itself.")
    # TensorFlow Serving keeps a SavedModel in a folder for each version, which is named by its number.
    versions = sorted((len(one.parent.name), one.parent.name) for one in path.glob(f"*/{GRAPH}"))
    if versions:
        newest = versions[-1][1]
        raise _refusal(path, f"holds no {GRAPH}, but {newest} in it does: give {path / newest}.")
    raise _refusal(
        path, f"is a folder without a model; name the file in it, or the folder that holds {GRAPH}."
    )


def _of_file(path: Path, has_architecture: bool) -> Format:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise _refusal(path, "is empty; copy it here again.")
    if any(head.startswith(HDF5, at) for at in USER_BLOCKS):
        if not (has_architecture or _has_model(path)):
            raise _refusal(path, WITH_LAYERS)
        return "h5"
    if not zipfile.is_zipfile(path):
        raise _refusal(path, _told(path, head))
    if told := _told_members(path):
        raise _refusal(path, told)
    return "keras"


def _has_model(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return "model_config" in file.attrs
    except Exception as exc:  # HDF5 raises many types for damage.
        raise _refusal(path, "cannot be loaded: it is a damaged HDF5 file.") from exc


def _told_members(path: Path) -> str | None:
    """What a zip file of something else is; what is odd in a `.keras` file is told by check_archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # check_archive tells the damage.
        return None
    if any(name.endswith("data.pkl") for name in names):
        return PYTORCH
    if names and all(name.endswith(".npy") for name in names):
        return ARRAYS
    models = (GRAPH, MEMBERS[0], ".keras", ".h5", ".hdf5", "checkpoint")
    is_packed = not set(MEMBERS) & set(names) and any(name.endswith(models) for name in names)
    return PACKED if is_packed else None


def _told(path: Path, head: bytes) -> str:
    """What a file is that is neither HDF5 nor zip, and what to do."""
    for at, signature, told in SIGNATURES:
        if head.startswith(signature, at):
            return told
    for pattern, told in NAMES:
        if re.fullmatch(pattern, path.name, re.IGNORECASE):
            return told
    return _told_text(path) if _is_text(head) else UNKNOWN


def _is_text(head: bytes) -> bool:
    if len(head) == HEAD_BYTES:
        head = head[:-4]  # It may end within a character.
    text = head.decode(errors="replace").removeprefix("\ufeff")
    return "\ufffd" not in text and all(one.isprintable() or one.isspace() for one in text)


def _told_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_JSON_BYTES))
    except (ValueError, RecursionError):
        return TEXT
    return LAYERS_ONLY if isinstance(found, dict) and "class_name" in found else TEXT
