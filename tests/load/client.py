"""Load, in a process of its own: prints as JSON what became of each request, the fields of `Sent`.

usage: client.py OPTIONS    (the arguments of `main`, as a JSON object)

It ends after its seconds, or when its standard input closes, and then waits for what is under way.
Threads with blocking sockets, so that its own work is small beside what it measures.
"""

import asyncio
import json
import math
import os
import random
import re
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count, cycle
from pathlib import Path
from threading import Event
from typing import NamedTuple
from urllib.parse import urlsplit

AT_ONCE = 500
TIMEOUT_S = 30  # without a byte
REFUSED = 429


class Sent(NamedTuple):
    """What became of one request. Times are of the monotonic clock, in seconds."""

    due: float
    id: str
    attempt: int
    finished: float
    status: int  # 0 where no whole answer came; `error` says why
    error: str
    retry_after: int  # seconds, of a refusal
    answer: str  # its first 1000 characters
    stages_ms: dict[str, float]  # of Server-Timing


class Client:
    """Sends requests to one URL, on connections that it keeps."""

    def __init__(
        self, url: str, headers: dict[str, str], body: bytes, ids: Iterator[str], sent: list[Sent]
    ) -> None:
        target = urlsplit(url)
        self._address = target.hostname, target.port
        self._body, self._ids, self._sent = body, ids, sent
        lines = {"Host": target.netloc, **headers, "Content-Length": len(body), "X-Request-ID": ""}
        self._head = f"POST {target.path or '/'}?{target.query} HTTP/1.1\r\n"
        self._head += "\r\n".join(f"{name}: {value}" for name, value in lines.items())
        self._idle: deque[socket.socket] = deque()

    def send(self, due: float, request_id: str = "", attempt: int = 1) -> Sent:
        """One request, and its answer or the lack of one."""
        request_id = request_id or next(self._ids)
        status, headers, answer, error = 0, {}, b"", ""
        try:
            status, headers, answer = self._exchange(request_id)
        except (OSError, EOFError) as exc:
            error = repr(exc)
        finished = time.monotonic()
        retry_after = int(headers["retry-after"]) if status == REFUSED else 0
        timing = re.findall(r"(\w+);dur=([\d.]+)", headers.get("server-timing", ""))
        stages_ms = {stage: float(ms) for stage, ms in timing}
        text = answer[:1000].decode(errors="replace")
        one = Sent(due, request_id, attempt, finished, status, error, retry_after, text, stages_ms)
        self._sent.append(one)
        return one

    def _exchange(self, request_id: str) -> tuple[int, dict[str, str], bytes]:
        connection = self._connection()  # unless it is kept, it closes with its last reference
        with suppress(BrokenPipeError, ConnectionResetError):  # the answer may come before all is sent
            connection.sendall(f"{self._head}{request_id}\r\n\r\n".encode(), socket.MSG_MORE)
            connection.sendall(self._body)
        status, headers, answer = receive(connection)
        if headers.get("connection") != "close":
            self._idle.append(connection)
        return status, headers, answer

    def _connection(self) -> socket.socket:
        while self._idle:
            connection = self._idle.pop()
            if not select.select([connection], [], [], 0)[0]:  # else the server has ended it
                return connection
        connection = socket.create_connection(self._address, TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def receive(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, and body (chunked, where it has no length). Raises EOFError."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _read(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    text = head.decode().lower()
    headers = dict(re.findall(r"\n([^:]+): *([^\r]*)", text))
    length = int(headers.get("content-length", -1))
    while len(body) < length or (length < 0 and not body.endswith(b"0\r\n\r\n")):
        body += _read(connection)
    return int(text.split()[1]), headers, body


def _read(connection: socket.socket) -> bytes:
    if data := connection.recv(2**16):
        return data
    raise EOFError("the server hung up")


def closed(client: Client, pause: float, rest: float, is_over: Event) -> None:
    """Sends the next request when the last is answered, and the client has paused or rested."""
    while not is_over.is_set():
        last = client.send(time.monotonic())
        if wait_s := pause if last.status == 200 else rest:
            is_over.wait(wait_s * random.uniform(0.9, 1.1))


async def opened(turns: Iterator[Client], rate: float, seconds: float, obey: float, is_over: Event):
    """Requests at that rate; those refused come back as they were told, while that is soon enough."""
    due, under_way = time.monotonic(), []
    end = due + seconds

    async def one(client: Client, due: float, *again) -> None:
        last = await asyncio.to_thread(client.send, due, *again)
        back = last.finished + last.retry_after
        if last.status == REFUSED and back <= end + obey:
            await asyncio.sleep(back - time.monotonic())
            await one(client, back, last.id, last.attempt + 1)

    while (due := due + random.expovariate(rate)) < end and not is_over.is_set():
        await asyncio.sleep(due - time.monotonic())
        under_way.append(asyncio.create_task(one(next(turns), due)))
    await asyncio.gather(*under_way)


async def main(
    urls: list[str],
    body: str,
    headers: dict[str, str],
    seconds: float = 300,
    clients: int = 1,
    pause: float = 0,
    rest: float = 0,
    rate: float = 0,
    obey: float = -math.inf,
    name: str = "",
) -> None:
    """Sends the file `body` to the URLs in turn; requests are called `name`-0, `name`-1, ...

    Closed loop: each of `clients` sends the next request when the last is answered, after a `pause` of
    about so many seconds where that was a 200, and a `rest` where it was not. Open loop: with a `rate`,
    so many requests a second on average at random (Poisson) times, whatever became of the others, while
    fewer than 500 are under way; latency counts from when one is due. Those refused come back after
    Retry-After, under the same X-Request-ID, if that is less than `obey` seconds after the end.
    """
    ids, sent = map(f"{name or os.urandom(8).hex()}-{{}}".format, count()), []  # safe in threads
    turns = cycle([Client(url, headers, Path(body).read_bytes(), ids, sent) for url in urls])
    is_over, loop = Event(), asyncio.get_running_loop()

    def end() -> None:
        is_over.set()
        loop.remove_reader(sys.stdin)

    loop.set_default_executor(ThreadPoolExecutor(AT_ONCE if rate else clients))
    loop.call_later(seconds, end)
    loop.add_reader(sys.stdin, end)
    if rate:
        await opened(turns, rate, seconds, obey, is_over)
    else:
        each = (asyncio.to_thread(closed, next(turns), pause, rest, is_over) for _ in range(clients))
        await asyncio.gather(*each)
    sys.stdout.write(json.dumps(sent))


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
