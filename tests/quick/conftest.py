"""The application on fake heads, asked in this process: no socket, no engine, no TensorFlow."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from fakes import fake_heads
from waiting import PATIENCE_S, until

from service.app import create_app
from service.settings import Settings

Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask() -> Ask:
    """`ask("POST", "/predict", content=picture())`: the answer of an application with loaded heads."""

    def asked(method: str, path: str, heads=None, app=None, **request) -> httpx.Response:
        served = app or create_app(Settings(), heads_=heads or fake_heads())

        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(served, raise_app_exceptions=False)
            async with (
                asyncio.timeout(PATIENCE_S),
                served.router.lifespan_context(served),
                httpx.AsyncClient(transport=transport, base_url="http://quick") as client,
            ):
                await until(served.state.context.heads.has_loaded)
                return await client.request(method, path, **request)

        return asyncio.run(answer())

    return asked
