"""Asks an application without sockets, in this process: thousands of requests, many at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from fuzz.requests import Request
from waiting import until


@dataclass(frozen=True)
class Answer:
    """What came back, and for how many seconds this process worked meanwhile."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[None]:
    """The application with its heads loaded."""
    async with app.router.lifespan_context(app):
        await until(lambda: not app.state.context.heads.is_loading)
        yield


async def ask(app: FastAPI, request: Request) -> Answer:
    """The answer to one request."""
    messages: list[dict] = []
    unread = [{"type": "http.request", "body": request.body, "more_body": False}]

    async def receive() -> dict:
        if unread:
            return unread.pop()
        return await asyncio.Future()  # nobody hangs up

    async def send(message: dict) -> None:
        messages.append(message)

    path = request.path or request.route
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method.upper(),
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": request.query,
        "headers": list(request.headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    began = time.process_time()
    await app(scope, receive, send)
    seconds = time.process_time() - began
    start, *rest = messages
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
    body = b"".join(message.get("body", b"") for message in rest)
    return Answer(start["status"], headers, body, seconds)
