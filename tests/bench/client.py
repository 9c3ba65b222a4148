"""Load, in a process of its own: clients that each send the next request when the last is answered.

usage: client.py SECONDS CLIENTS BODY HEADERS URL [URL ...]    (clients take the URLs in turn)

Prints, as JSON, one list a request: when it was answered, in seconds; its latency, and the server's
decode, queue, inference and total, in milliseconds. Raw sockets, so that the client's own work is small
beside what it measures.
"""

import json
import re
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

STAGES = ("decode", "queue", "inference", "total")
TIMEOUT_S = 30


def main() -> None:
    seconds, clients, body = float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]).read_bytes()
    headers, urls = json.loads(sys.argv[4]), sys.argv[5:]
    end = time.perf_counter() + seconds
    answered: list[list[float]] = []
    with ThreadPoolExecutor(clients) as pool:
        sending = [
            pool.submit(send, urls[number % len(urls)], body, headers, end, answered)
            for number in range(clients)
        ]
    for client in sending:  # one that failed would leave the others a server that has less to do
        client.result()
    assert answered, "no request was answered"
    print(json.dumps(answered))


def send(
    url: str, body: bytes, headers: dict[str, str], end: float, answered: list[list[float]]
) -> None:
    """One client: requests until `end`; one that ends later does not count."""
    target = urlsplit(url)
    head = f"POST {target.path}?{target.query} HTTP/1.1\r\nHost: {target.netloc}\r\n"
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"{head}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection((target.hostname, target.port), TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            started = time.perf_counter()
            connection.sendall(request)
            told = receive(connection)
            finished = time.perf_counter()
            if finished > end:
                return
            timing = dict(re.findall(r"(\w+);dur=([\d.]+)", told))
            stages_ms = (float(timing[stage]) for stage in STAGES)
            answered.append([finished, 1e3 * (finished - started), *stages_ms])


def receive(connection: socket.socket) -> str:
    """The headers of one answer, once all of it is there. Fails unless it is a 200."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(2**16) or sys.exit("the server hung up")
    headers, _, rest = data.partition(b"\r\n\r\n")
    text = headers.decode().lower()
    assert text.startswith("http/1.1 200"), text
    left = int(re.search(r"\ncontent-length: (\d+)", text)[1]) - len(rest)
    while left > 0:
        left -= len(connection.recv(left)) or sys.exit("the server hung up")
    return text


if __name__ == "__main__":
    main()
