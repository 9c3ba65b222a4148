"""A real server that answers as it is told to, and remembers what it was asked."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

PREDICTED = (
    b'{"head":"gap","version":1,"engine":"openvino","results":[{"predictions":'
    b'[{"index":0,"label":"red","probability":0.9}]}],'
    b'"timing_ms":{"decode":1,"queue":1,"inference":1,"total":3}}'
)


class Script:
    """An ASGI application: each request gets the next answer, and the last one from then on."""

    def __init__(self, *answers: Callable[[], Response]):
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self._answers = list(answers)

    async def __call__(self, scope, receive, send):
        request = Request(scope, receive)
        self.bodies.append(await request.body())
        self.requests.append(request)
        answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
        await answer()(scope, receive, send)


def ok(body=PREDICTED, media_type="application/json", **headers):
    return lambda: Response(body, 200, headers, media_type)


def status(code, body=b"<html>no</html>", media_type="text/html", **headers):
    """An answer that is none of ours; `retry_after` becomes the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: Response(body, code, named, media_type)


def problem(code, kind, **headers):
    body = (
        f'{{"type":"urn:resnet-heads:problem:{kind}","title":"T","status":{code},'
        f'"detail":"It is {kind}.","error":"It is {kind}."}}'
    )
    return status(code, body.encode(), "application/problem+json", **headers)


def drip(chunks, pause_s, media_type="application/json"):
    """Chunks of bytes with a pause before each."""

    async def flow():
        for chunk in chunks:
            await asyncio.sleep(pause_s)
            yield chunk

    return lambda: StreamingResponse(flow(), 200, media_type=media_type)


def broken_off(chunk=b"{"):
    """An answer whose connection ends in its middle."""
    return lambda: Response(chunk, 200, {"content-length": "1000"}, "application/json")
