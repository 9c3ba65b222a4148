"""The keys that are valid now: those of the settings, and those of a file that may change meanwhile."""

import logging
from pathlib import Path

from service.errors import CommandError, is_transient, reason_of
from service.store.layout import stamp_of

log = logging.getLogger(__name__)

MAX_BYTES = 2**16


class Keys:
    """Called for each request: asks when the file was changed, and reads it only when it was.

    A file that is gone, empty or damaged never opens the service: the last good keys stay, and after
    an I/O error the next request reads it. From the start there are none to keep, so that it raises
    CommandError.
    """

    def __init__(self, fixed: tuple[str, ...], file: Path | None) -> None:
        self._fixed, self._file, self._keys = fixed, file, fixed
        self._error: str | None = None
        if file:
            self._stamp = stamp_of(file)
            try:
                self._keys = (*fixed, *read_keys(file))
            except (OSError, ValueError) as exc:
                raise CommandError(f"The key file {file} cannot be used: {_reason(exc)}.") from exc

    def __call__(self) -> tuple[str, ...]:
        """Every valid key; none where none is asked for."""
        if self._file and (stamp := stamp_of(self._file)) != self._stamp:
            self._read(self._file, stamp)
        return self._keys

    def _read(self, file: Path, stamp: tuple[int, int] | None) -> None:
        """The stamp is of before: what changes meanwhile is read again."""
        before, self._error = self._error, None
        try:
            self._keys = (*self._fixed, *read_keys(file))
            log.info("read %s anew", file)
        except (OSError, ValueError) as exc:
            if is_transient(exc):
                self._error = _reason(exc)
                if self._error == before:
                    return
            log.error("%s cannot be used, the keys of before stay valid: %s", file, _reason(exc))
        if self._error is None:
            self._stamp = stamp


def read_keys(file: Path) -> list[str]:
    """One key a line. Raises OSError, or ValueError for what is no list of keys."""
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    keys = [line.strip() for line in content.decode("ascii").splitlines() if line.strip()]
    if not keys:
        raise ValueError("it holds no key")
    if not all(key.isprintable() for key in keys):
        raise ValueError("it holds what cannot be sent as a key")
    return keys


def _reason(exc: OSError | ValueError) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return "it is not ASCII text"
    return reason_of(exc) if isinstance(exc, OSError) else str(exc)
