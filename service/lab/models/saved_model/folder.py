"""Says which files of a SavedModel folder are its own. Imports no TensorFlow, and opens none of them."""

import re
import stat
from pathlib import Path

from service.errors import CommandError, reason_of

GRAPH = "saved_model.pb"
METADATA = "keras_metadata.pb"
EXTRAS = ("fingerprint.pb", METADATA)
VARIABLES = "variables"
SHARD = re.compile(r"variables\.(index|data-\d{5}-of-\d{5})")


def files_of(folder: Path) -> tuple[Path, ...]:
    """The files of a SavedModel, relative to `folder`; others in it are neither read nor published.

    Raises CommandError if one is missing, or is no regular file.
    """
    if not (folder / GRAPH).exists():
        raise CommandError(f"{folder.name} is no SavedModel: it holds no {GRAPH}.")
    try:
        if not stat.S_ISDIR((folder / VARIABLES).lstat().st_mode):
            raise CommandError(
                f"{VARIABLES} in {folder.name} is no folder; copy what it stands for there."
            )
        shards = [one for one in (folder / VARIABLES).iterdir() if SHARD.fullmatch(one.name)]
        extras = [one for one in (folder / name for name in EXTRAS) if one.exists()]
        found = [folder / GRAPH, *extras, *sorted(shards)]
        for one in found:
            if not stat.S_ISREG(one.lstat().st_mode):
                raise CommandError(
                    f"{one.name} in {folder.name} is no regular file; copy what it stands for there."
                )
    except OSError as exc:
        raise CommandError(f"{folder.name} cannot be read: {reason_of(exc)}.") from exc
    return tuple(one.relative_to(folder) for one in found)


def variables_of(folder: Path) -> str:
    """The path that the names of the variables' files begin with, as TensorFlow takes it."""
    return str(folder.resolve() / VARIABLES / "variables")
