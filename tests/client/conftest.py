"""Every test of a call runs with both clients."""

import asyncio

import pytest

from service.client import AsyncClient, Client


def blocking(url, name, *args, api_key=None, **kwargs):
    with Client(url, api_key=api_key) as client:
        return getattr(client, name)(*args, **kwargs)


def awaited(url, name, *args, api_key=None, **kwargs):
    async def run():
        async with AsyncClient(url, api_key=api_key) as client:
            return await getattr(client, name)(*args, **kwargs)

    return asyncio.run(run())


@pytest.fixture(params=[blocking, awaited])
def call(request):
    """`call(url, "predict", ...)` is what that method of a client returns."""
    return request.param
