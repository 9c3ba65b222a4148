"""Authentication: the API keys that are valid now, and the key that a request carries."""

import hmac
import logging
from pathlib import Path

from fastapi import Request
from starlette.datastructures import Headers

from service.api.context import context_of
from service.errors import CommandError, NotAuthorized, is_transient, reason_of
from service.store.layout import stamp_of

log = logging.getLogger(__name__)

MAX_BYTES = 2**16


class Keys:
    """The valid API keys; the key file is read again whenever its modification stamp changes.

    A file that is missing, empty or damaged never opens the service: the last good keys stay valid, and
    after an I/O error the next request tries again. At start there are no earlier keys, so that a bad
    file raises CommandError.
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
        """Returns every valid key; none means that the service asks for no key."""
        if self._file and (stamp := stamp_of(self._file)) != self._stamp:
            self._read(self._file, stamp)
        return self._keys

    def _read(self, file: Path, stamp: tuple[int, int] | None) -> None:
        """Reads the file. `stamp` is older, so that the next call notices a change during the read."""
        before, self._error = self._error, None
        try:
            self._keys = (*self._fixed, *read_keys(file))
            log.info("read the key file %s again", file)
        except (OSError, ValueError) as exc:
            if is_transient(exc):
                self._error = _reason(exc)
                if self._error == before:
                    return
            log.error("key file %s cannot be used, the previous keys stay valid: %s", file, _reason(exc))
        if self._error is None:
            self._stamp = stamp


def read_keys(file: Path) -> list[str]:
    """Reads one key a line. Raises OSError, or ValueError when the file is not a list of keys."""
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    keys = [line.strip() for line in content.decode("ascii").splitlines() if line.strip()]
    if not keys:
        raise ValueError("it holds no key")
    if not all(key.isprintable() for key in keys):
        raise ValueError("it holds characters that cannot be sent in a header")
    return keys


def _reason(exc: OSError | ValueError) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return "it is not ASCII text"
    return reason_of(exc) if isinstance(exc, OSError) else str(exc)


def key_in(headers: Headers) -> str | None:
    """The key that a request carries: `Authorization: Bearer KEY`, else `X-API-Key: KEY`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else headers.get("x-api-key")


def has_key(keys: tuple[str, ...], given: str | None) -> bool:
    """Returns whether `given` is among `keys`, or no keys are set. Compares in constant time."""
    matches = [hmac.compare_digest((given or "").encode(), key.encode()) for key in keys]
    return not keys or any(matches)


def check_key(keys: tuple[str, ...], given: str | None) -> None:
    """Raises NotAuthorized unless `has_key` holds."""
    if not has_key(keys, given):
        raise NotAuthorized


# Dependencies of their own would cost each request more than checking its key does.


async def needs_key(request: Request) -> None:
    """A dependency of routes that require an API key, in either header, where keys are set.

    The gate has already checked the key of a request that holds a permit.
    """
    if not hasattr(request.state, "permit"):
        check_key(context_of(request).api_keys(), key_in(request.headers))


async def needs_admin(request: Request) -> None:
    """A dependency of routes for administrators: the admin key, or an API key if none is set."""
    context = context_of(request)
    check_key(context.admin_keys() or context.api_keys(), key_in(request.headers))
