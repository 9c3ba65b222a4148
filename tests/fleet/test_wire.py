"""What real nginx and HAProxy do to single requests, before servers that only take notes."""

import contextlib
import json
import re
import threading
from contextlib import ExitStack, contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer

import httpx
import pytest
from fakes import fake_heads, picture
from fleet.replicas import DEPLOY, FILES
from live import running
from scripted import Script, ok

from service.app import create_app
from service.settings import Settings

pytestmark = pytest.mark.fleet

LIMIT = Settings.model_fields["max_body_bytes"].default


@contextmanager
def before(proxy, *apps):
    """The proxy's URL before real servers of these applications."""
    with ExitStack() as stack:
        urls = [stack.enter_context(running(app)) for app in apps]
        ports = [int(url.rpartition(":")[2]) for url in urls]
        yield stack.enter_context(proxy(ports))


@pytest.fixture
def service(proxy):
    """The URL of the proxy before two services."""
    with before(proxy, *(create_app(Settings(), fake_heads()) for _ in range(2))) as url:
        yield url


@pytest.fixture
def script(proxy):
    """(URL, what the upstream was asked): it answers everything with 200."""
    upstream = Script(ok())
    with before(proxy, upstream, upstream) as url:
        yield url, upstream


class Dies(StreamRequestHandler):
    """Reads a request whole, and hangs up without an answer. To health checks it is well."""

    def handle(self):
        lines = list(iter(self.rfile.readline, b"\r\n"))
        if not lines[0].startswith(b"POST"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        length = next(
            int(line.split()[1]) for line in lines if line.lower().startswith(b"content-length")
        )
        self.server.begun.append(self.rfile.read(length))


@contextmanager
def dying():
    server = ThreadingTCPServer(("127.0.0.1", 0), Dies)
    server.begun = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def test_what_a_replica_began_is_never_sent_to_another(proxy):
    with dying() as one, dying() as other:
        with proxy([one.server_address[1], other.server_address[1]]) as url:
            for number in range(10):
                try:
                    answer = httpx.post(f"{url}/predict", content=str(number))
                    assert answer.status_code in (502, 503)
                    assert answer.json()["error"]
                except httpx.RemoteProtocolError:  # HAProxy may hang up on a client as the replica did
                    pass
        begun = one.begun + other.begun
    assert begun, "none of them was reached"
    assert len(begun) == len(set(begun)), "one was begun twice"


def test_where_nobody_listens_the_other_is_asked(proxy):
    upstream = Script(ok())
    with running(upstream) as url:
        port = int(url.rpartition(":")[2])
        with proxy([1, port]) as front:
            for _ in range(6):
                assert httpx.post(f"{front}/predict", content=b"x").status_code == 200
    posts = [one for one in upstream.requests if one.method == "POST"]
    assert len(posts) == 6


def test_a_body_of_the_limit_passes_and_one_byte_more_does_not(service):
    with httpx.Client(base_url=service, timeout=60) as client:
        assert client.post("/predict", content=bytes(LIMIT)).status_code == 422
        refused = client.post("/predict", content=bytes(LIMIT + 1))
        assert (refused.status_code, refused.json()["error"]) == (
            413,
            f"The body is larger than the limit of {LIMIT} bytes.",
        )


def test_a_body_that_hides_its_length_is_measured_too(service):
    def chunks():
        for _ in range(LIMIT // 2**20 + 1):
            yield bytes(2**20)

    # the answer may come while it is still sending, and the connection end
    with contextlib.suppress(httpx.WriteError):
        assert httpx.post(f"{service}/predict", content=chunks(), timeout=60).status_code == 413
    assert httpx.post(f"{service}/predict", content=picture()).status_code == 200


@pytest.mark.parametrize("prefix", ["", "/resnet-heads"])
def test_the_page_and_the_routes_are_there_under_a_prefix_too(service, prefix):
    page = httpx.get(f"{service}{prefix}/")
    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="([^"#:]+)"', page.text)
    assert links
    for link in links:
        assert httpx.get(page.url.join(link)).status_code == 200, link
    answer = httpx.post(f"{service}{prefix}/predict?top_k=1", content=picture()).json()
    assert answer["results"][0]["predictions"][0]["label"] == "red"


def test_a_prefix_without_its_slash_is_sent_there(service):
    answer = httpx.get(f"{service}/resnet-heads")
    assert (answer.status_code, answer.headers["location"]) == (308, "/resnet-heads/")


def test_the_replica_is_told_who_asks_and_under_which_id(script):
    url, upstream = script
    host = url.removeprefix("http://")
    httpx.post(f"{url}/resnet-heads/predict?head=gap", content=b"x", headers={"X-Request-ID": "mine"})
    httpx.post(f"{url}/predict", content=b"y", headers={"X-Forwarded-For": "192.0.2.1"})
    first, second = (one for one in upstream.requests if one.method == "POST")
    assert (first.url.path, first.url.query) == ("/predict", "head=gap")
    assert first.headers["x-request-id"] == "mine"
    assert len(second.headers["x-request-id"]) >= 32
    assert first.headers["host"] == first.headers["x-forwarded-host"] == host
    assert first.headers["x-forwarded-proto"] == "http"
    assert first.headers["x-forwarded-for"] == "127.0.0.1"
    hops = ", ".join(second.headers.getlist("x-forwarded-for"))
    assert hops == "192.0.2.1, 127.0.0.1"


def test_metrics_are_for_prometheus_and_not_behind_the_balancer(service):
    answer = httpx.get(f"{service}/metrics")
    assert (answer.status_code, answer.json()["status"]) == (404, 404)


def test_what_the_proxy_says_itself_is_a_problem_document_of_its_status(proxy):
    config = (DEPLOY / FILES[proxy.kind]).read_text()
    documents = [json.loads(text) for text in re.findall(r"'(\{.*?\})'", config)]
    assert len(documents) >= 5
    for one in documents:
        assert one["type"].startswith("urn:resnet-heads:problem:")
        assert one["error"] == one["detail"]
        assert set(one) == {"type", "title", "status", "detail", "error"}
    told = re.findall(r"(?:return|status) (\d{3}) [^\n]*?\"status\": (\d{3})", config)
    assert len(told) == len(documents)
    assert all(sent == said for sent, said in told)
