"""The blocking and the asyncio client. They differ only in how they wait."""

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

import httpx
from pydantic import AnyHttpUrl, ValidationError

from service.client import calls
from service.client.calls import Call
from service.client.errors import WrongUrl
from service.client.exchange import Exchange

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 30.0

P = ParamSpec("P")
T = TypeVar("T")


class Method(Generic[P, T]):
    """Turns a function that makes a call into a method that sends it and returns the answer."""

    def __init__(self, make: Callable[P, Call[T]]) -> None:
        self._make = make

    @overload
    def __get__(self, client: None, _: type) -> Callable[P, Call[T]]: ...
    @overload
    def __get__(self, client: "Client", _: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncClient", _: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: "Client | AsyncClient | None", _: type) -> Callable[P, Any]:
        if client is None:
            return self._make

        @functools.wraps(self._make)
        def method(*args: P.args, **kwargs: P.kwargs) -> T | Coroutine[Any, Any, T]:
            return client.send(self._make(*args, **kwargs))

        return method


class Methods:
    """The methods of both clients."""

    predict = Method(calls.predict)
    compare = Method(calls.compare)
    explain = Method(calls.explain)
    explain_png = Method(calls.explain_png)
    shift = Method(calls.shift)
    heads = Method(calls.heads)
    benchmark = Method(calls.benchmark)
    measure = Method(calls.measure)


class Client(Methods):
    """The blocking client. Thread-safe.

    It retries when the server is busy and sends Retry-After, within the call's deadline.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, api_key: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        """`timeout_s` is the deadline of a call that has none of its own. Raises WrongUrl."""
        self._url = url
        self._timeout_s = timeout_s
        self._http = httpx.Client(base_url=_checked(url), headers=_headers(api_key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the client's connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Sends a call. Raises a subclass of CallFailed, or OSError for an image file."""
        exchange = Exchange(call, self._url, self._timeout_s)
        while True:
            with exchange.failures(), self._http.stream(**exchange.request()) as response:
                answer = exchange.answer(response)
                for chunk in response.iter_bytes():
                    answer.feed(chunk)
            if (wait_s := exchange.wait_s(answer)) is None:
                return exchange.result(answer)
            time.sleep(wait_s)


class AsyncClient(Methods):
    """The asyncio client: each method is awaited. Cancelling a call closes its connection."""

    def __init__(
        self, url: str = DEFAULT_URL, *, api_key: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Takes the same arguments as Client."""
        self._url = url
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(base_url=_checked(url), headers=_headers(api_key))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the client's connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Sends a call as Client does; reads files and parses answers in threads."""
        exchange = await asyncio.to_thread(Exchange, call, self._url, self._timeout_s)
        while True:
            with exchange.failures():
                async with (
                    asyncio.timeout(exchange.deadline.left_s()),
                    self._http.stream(**exchange.request()) as response,
                ):
                    answer = exchange.answer(response)
                    async for chunk in response.aiter_bytes():
                        answer.feed(chunk)
            if (wait_s := exchange.wait_s(answer)) is None:
                return await asyncio.to_thread(exchange.result, answer)
            await asyncio.sleep(wait_s)


def _checked(url: str) -> str:
    try:
        AnyHttpUrl(url)
        httpx.URL(url).raw_host.decode().encode("idna")  # The resolver encodes the name in the same way.
    except (ValidationError, httpx.InvalidURL, UnicodeError) as exc:
        raise WrongUrl(url) from exc
    return url


def _headers(api_key: str | None) -> dict[bytes, bytes]:
    return {b"X-API-Key": api_key.strip().encode()} if api_key else {}
