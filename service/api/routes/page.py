"""GET /: the web page and its static files, all from memory. No other file can be requested.

Starlette's StaticFiles and GZipMiddleware were tried here and serve these files less well:

- Their ETag is made of a file's time and size, so two builds with fixed file times may share it.
- They answer HEAD with the Content-Length of the uncompressed file.
- They answer a bad Range header in plain text instead of with a problem document.
- They compress the same file again for each request.
"""

import gzip
import hashlib
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

INDEX = "index.html"
FOLDERS = ("page", "page/examples", "assets")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json"}
COMPRESSED = frozenset(TYPES)
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",  # Browsers ask each time, and get a 304 where nothing has changed.
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True)
class StaticFile:
    """A static file in memory; `gzipped` is None for a type that is sent as it is, such as JPEG."""

    media_type: str
    content: bytes
    gzipped: bytes | None
    etag: str

    @classmethod
    def of(cls, file: Traversable) -> "StaticFile":
        content, suffix = file.read_bytes(), f".{file.name.rpartition('.')[2]}"
        media_type = TYPES.get(suffix) or mimetypes.guess_type(file.name)[0] or "text/plain"
        gzipped = gzip.compress(content, mtime=0) if suffix in COMPRESSED else None
        return cls(media_type, content, gzipped, f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    def answer(self, request: Request) -> Response:
        """The file, compressed if the client accepts gzip, or 304 if its copy is current (ETag)."""
        headers = HEADERS | {"ETag": self.etag}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if self.gzipped and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(self.gzipped, headers=headers, media_type=self.media_type)
        return Response(self.content, headers=headers, media_type=self.media_type)


def router() -> APIRouter:
    """The routes of the page. Its URLs are relative, so that it works under any path prefix."""
    known = dict(_read())
    index = known.pop(INDEX)
    routes = APIRouter(include_in_schema=False)

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return index.answer(request)

    @routes.api_route("/static/{name}", methods=["GET", "HEAD"])
    async def static(name: str, request: Request) -> Response:
        if name not in known:
            raise HTTPException(404)
        return known[name].answer(request)

    return routes


def _read() -> Iterator[tuple[str, StaticFile]]:
    for folder in FOLDERS:
        for file in files("service").joinpath(*folder.split("/")).iterdir():
            if file.is_file():
                yield file.name, StaticFile.of(file)
