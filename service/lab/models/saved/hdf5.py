"""Checks an HDF5 file before it is believed: it holds its own data, and no more than it shows."""

import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from service.lab.models.saved import OTHERS, Unloadable

MAX_OBJECTS = 200_000
MAX_LEVELS = 40  # Keras' own go to about 12
MAX_NAMES = 20_000
MAX_TEXT_BYTES = 2**24
MAX_RATIO = 10  # Keras stores without compression, and weights hardly compress
SLACK_BYTES = 2**20
FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
}
NUMBERS = "biuf"
BFLOAT16 = np.dtype("V2")  # as Keras writes it


def check_hdf5(path: Path) -> int:
    """The number of values in the datasets of the file. Raises Unloadable, without reading any of them.

    Refused are links to elsewhere, data in other files, loops, unknown filters and types that are no
    numbers, and datasets that would unpack to much more than the file.
    """
    values = unpacked = 0
    with opened(path) as file:
        for name, one in _objects(file):
            if isinstance(one, h5py.Dataset):
                _check_dataset(name, one)
                values += math.prod(one.shape)
                unpacked += math.prod(one.shape) * one.dtype.itemsize
    if unpacked > MAX_RATIO * path.stat().st_size + SLACK_BYTES:
        raise Unloadable(f"the weights in it would unpack to {unpacked} bytes.")
    return values


def opened(path: Path) -> h5py.File:
    """The file, to read from. Raises Unloadable."""
    try:
        return h5py.File(path, "r")
    except Exception as exc:  # HDF5 raises many types for damage.
        raise Unloadable("it is no HDF5 file, or a damaged one.") from exc


def text_attribute(file: h5py.File, name: str) -> str | None:
    """A text that is an attribute of the file; None where it is missing. Raises Unloadable."""
    if name not in file.attrs:
        return None
    _check_attribute(file.attrs.get_id(name), 1)
    value = file.attrs[name]
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if len(text) > MAX_TEXT_BYTES:
        raise Unloadable(f"its {name} is larger than {MAX_TEXT_BYTES} bytes.")
    return text


def names_attribute(group: h5py.Group, name: str) -> list[str]:
    """A list of names that is an attribute of a group, in parts NAME0, NAME1 ... where it is long."""
    keys = [name] if name in group.attrs else []
    while not keys or keys[0] != name:
        part = f"{name}{len(keys)}"
        if part not in group.attrs:
            break
        keys.append(part)
    found: list[str] = []
    for key in keys:
        _check_attribute(group.attrs.get_id(key), MAX_NAMES)
        values = np.ravel(group.attrs[key])
        found += [one.decode() if isinstance(one, bytes) else str(one) for one in values]
    return found


def group_at(parent: h5py.Group, path: str) -> h5py.Group | None:
    """The group at a path; None where there is none."""
    found = parent.get(path) if path else parent
    return found if isinstance(found, h5py.Group) else None


def dataset_at(group: h5py.Group, path: str) -> h5py.Dataset:
    """The dataset at a path. Raises Unloadable where there is none."""
    found = group.get(path)
    if not isinstance(found, h5py.Dataset):
        raise Unloadable(OTHERS)
    return found


def _objects(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Every group and dataset once, each by its own link."""
    seen: set[object] = set()
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    while waiting:
        path, group = waiting.pop()
        if path.count("/") > MAX_LEVELS:
            raise Unloadable(f"its groups are nested more than {MAX_LEVELS} levels deep.")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise Unloadable(
                    f"it holds a link to elsewhere, {name[:60]!r}, which no Keras file does."
                )
            one = _member(group, name)
            address = h5py.h5o.get_info(one.id).addr
            if address in seen or len(seen) > MAX_OBJECTS:
                raise Unloadable("its groups form a loop, or are too many.")
            seen.add(address)
            yield f"{path}/{name}", one
            if isinstance(one, h5py.Group):
                waiting.append((f"{path}/{name}", one))


def _member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    try:
        one = group[name]
    except Exception as exc:  # as in opened()
        raise Unloadable("it is a damaged HDF5 file.") from exc
    if not isinstance(one, h5py.Group | h5py.Dataset):
        raise Unloadable(f"it holds {name[:60]!r}, which is neither weights nor a group of them.")
    return one


def _check_dataset(name: str, one: h5py.Dataset) -> None:
    told = repr(name[-60:])
    if one.external or one.is_virtual:
        raise Unloadable(f"its weights {told} lie in another file, as no Keras file has them.")
    if one.dtype.kind not in NUMBERS and one.dtype != BFLOAT16:
        raise Unloadable(f"its weights {told} are no numbers.")
    if one.shape is None:
        raise Unloadable(f"its weights {told} are empty.")
    plist = one.id.get_create_plist()
    if any(plist.get_filter(at)[0] not in FILTERS for at in range(plist.get_nfilters())):
        raise Unloadable(f"its weights {told} are packed in a way that no Keras file is.")


def _check_attribute(attribute: h5py.h5a.AttrID, most: int) -> None:
    count = math.prod(attribute.shape or ())
    if count > most or count * attribute.dtype.itemsize > MAX_TEXT_BYTES:
        raise Unloadable("its attributes are larger than those of any model.")
    if attribute.dtype.kind not in "OSfi":
        raise Unloadable("its attributes are not those of a Keras file.")
