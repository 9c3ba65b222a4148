"""Checks a `.keras` file before Keras reads it: it must be a zip of three files, and no zip bomb."""

import shutil
import zipfile
from pathlib import Path

from service.errors import CommandError, reason_of

CONFIG, METADATA, WEIGHTS = MEMBERS = ["config.json", "metadata.json", "model.weights.h5"]
MAX_RATIO = 10  # Keras stores without compression, and weights hardly compress
MAX_TEXT_BYTES = 2**24


def check_archive(path: Path) -> None:
    """Raises CommandError for other members, including path traversal, for zip bombs, and for damage."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except OSError as exc:
        raise CommandError(f"{path.name} cannot be read: {reason_of(exc)}.") from exc
    except zipfile.BadZipFile as exc:
        raise CommandError(
            f"{path.name} is no Keras 3 file, or a damaged one: it is no zip archive."
        ) from exc
    if strange := [one.filename for one in members if one.filename not in MEMBERS]:
        raise CommandError(f"{path.name} holds {strange[0][:80]!r}, which no Keras model needs.")
    if sorted(one.filename for one in members) != MEMBERS:
        raise CommandError(
            f"{path.name} cannot be loaded: it must hold {', '.join(MEMBERS)}, each once."
        )
    for one in members:  # The sizes can be trusted: zipfile does not unpack more than `file_size`.
        limit = MAX_RATIO * one.compress_size if one.filename == WEIGHTS else MAX_TEXT_BYTES
        if one.file_size > limit:
            raise CommandError(f"{one.filename} in {path.name} would unpack to {one.file_size} bytes.")
    _check_content(path)


def _check_content(path: Path) -> None:
    """Raises CommandError where a member's checksum is wrong.

    Keras reads the weights in parts, and since Python 3.12 zipfile does not notice damage that way.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as exc:  # Decompressors may raise anything.
        raise CommandError(f"{path.name} cannot be loaded: {str(exc) or type(exc).__name__}.") from exc
    if damaged:
        raise CommandError(f"{path.name} cannot be loaded: {damaged} in it is damaged.")


def check_folder(folder: Path) -> None:
    """Raises CommandError unless the three files in an unpacked archive are files of this folder."""
    for one in (folder / name for name in MEMBERS):
        if one.is_symlink() or not one.is_file():
            raise CommandError(f"{one.name} in {folder.name[:80]} is no file of its own.")
        if one.name != WEIGHTS and one.stat().st_size > MAX_TEXT_BYTES:
            raise CommandError(
                f"{one.name} in {folder.name[:80]} is larger than {MAX_TEXT_BYTES} bytes."
            )


def packed(folder: Path, target: Path) -> None:
    """Writes an unpacked `.keras` folder as the file that it was, equal folders as equal bytes."""
    check_folder(folder)
    with zipfile.ZipFile(target, "w") as archive:
        for name in MEMBERS:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            entry.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(entry, "w") as member:
                shutil.copyfileobj(source, member)
