"""Load on one URL, in a process of its own. Prints what became of every request, as JSON.

usage: client.py URL BODY [--clients N [--pause S] | --rate R [--obey S]] [--seconds S] [--type T]

`--clients`: each sends the next request when the last is answered, after a pause of about S seconds.
`--rate`: requests a second on average, at random (Poisson) times, sent when they are due whatever became
of the others; latency counts from then. With `--obey`, those refused come back after Retry-After, under
the same X-Request-ID, until they are served or S seconds after the end. It ends after its seconds, or
when its standard input closes, and then waits for what is under way. Raw sockets, so that its own work
is small.
"""

import argparse
import asyncio
import json
import random
import sys
import time
import uuid
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT_S = 30
REFUSED = 429

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Client:
    """Sends requests on connections that it keeps, and remembers what became of each."""

    def __init__(self, url: str, body: bytes, media_type: str) -> None:
        self._url, self._body, self._type = urlsplit(url), body, media_type
        self._idle: deque[Connection] = deque()
        self.sent: list[dict] = []

    async def send(self, due: float, request_id: str = "", attempt: int = 1) -> dict:
        """One request. `status` is 0 where no whole answer came, and `error` says why.

        Times are of the monotonic clock.
        """
        one = {"due": due, "id": request_id or uuid.uuid4().hex, "attempt": attempt, "status": 0}
        self.sent.append(one)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                one |= await self._exchange(one["id"])
        except (OSError, EOFError, TimeoutError) as exc:
            one["error"] = repr(exc)
        one["finished"] = time.monotonic()
        return one

    async def _exchange(self, request_id: str) -> dict:
        target = f"{self._url.path}?{self._url.query}"
        head = f"POST {target} HTTP/1.1\r\nHost: {self._url.netloc}\r\nX-Request-ID: {request_id}\r\n"
        head += f"Content-Type: {self._type}\r\n"
        reader, writer = await self._connection()
        try:
            writer.write(f"{head}Content-Length: {len(self._body)}\r\n\r\n".encode() + self._body)
            status, headers, answer = await receive(reader)
        except BaseException:
            writer.transport.abort()
            raise
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        told = {"status": status, "answer": answer[:1000].decode(errors="replace")}
        return told | {"retry_after": int(headers["retry-after"])} if status == REFUSED else told

    async def _connection(self) -> Connection:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
        return await asyncio.open_connection(self._url.hostname, self._url.port)


async def receive(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one answer. Raises EOFError where it breaks off."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(first.split()[1]), headers, body


async def closed(client: Client, clients: int, pause_s: float, is_over: asyncio.Event) -> None:
    """Each of the clients sends the next request when the last is answered, and it has paused."""

    async def one() -> None:
        while not is_over.is_set():
            await client.send(time.monotonic())
            await asyncio.sleep(pause_s * random.uniform(0.9, 1.1))

    await asyncio.gather(*(one() for _ in range(clients)))


async def opened(
    client: Client, rate: float, seconds: float, obey_s: float | None, is_over: asyncio.Event
) -> None:
    """Requests at that rate; those refused come back as they were told, while that is soon enough."""
    begun, under_way = time.monotonic(), []

    async def one(due: float) -> None:
        sent = await client.send(due)
        while sent["status"] == REFUSED and obey_s is not None:
            back = time.monotonic() + sent["retry_after"]
            if back > begun + seconds + obey_s:
                return
            await asyncio.sleep(sent["retry_after"])
            sent = await client.send(back, sent["id"], sent["attempt"] + 1)

    due = begun
    while not is_over.is_set():
        due += random.expovariate(rate)
        await asyncio.sleep(due - time.monotonic())
        under_way.append(asyncio.create_task(one(due)))
    await asyncio.gather(*under_way)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("body", type=Path)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--obey", type=float)
    parser.add_argument("--type", default="image/jpeg")
    asked = parser.parse_args()
    client, is_over = Client(asked.url, asked.body.read_bytes(), asked.type), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_later(asked.seconds, is_over.set)
    loop.add_reader(sys.stdin, is_over.set)
    if asked.rate:
        await opened(client, asked.rate, asked.seconds, asked.obey, is_over)
    else:
        await closed(client, asked.clients, asked.pause, is_over)
    json.dump(client.sent, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
