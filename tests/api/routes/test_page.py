"""The page over HTTP: what it sends, how little, and what it lets a browser do."""

import gzip
import hashlib
import importlib.resources
import os
import re

import httpx
import pytest

from service.api.routes.page import StaticFile

ROOT = importlib.resources.files("service")
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
FIRST_VIEW_BYTES = 300_000
VENDORED = {"chart.umd.js", "chart.umd.LICENSE", "vik.LICENSE", "README.md"}  # names its home page


def names(text: str) -> set[str]:
    return set(re.findall(r'static/([\w.-]+)"', text)) | set(re.findall(r'from "\./([\w.-]+)"', text))


def everything(client: httpx.Client) -> dict[str, httpx.Response]:
    """The page and all that it names, and what that names, as a browser would load it."""
    answers, wanted = {}, [""]
    while wanted:
        name = wanted.pop()
        answers[name] = client.get(f"static/{name}" if name else "")
        if answers[name].headers["content-type"].startswith("text/"):
            wanted += names(answers[name].text) - answers.keys() - set(wanted)
    return answers


def test_the_page_is_at_the_root_with_a_strict_policy(client):
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_all_that_it_names_is_there_and_needs_no_key(connect):
    client = connect(api_keys=("secret",))
    answers = everything(client)
    assert {"page.js", "page.css", "theme.css", "plot.js", "red-top-left.jpg"} < answers.keys()
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 200)
    assert client.get("/heads").status_code == 401


def test_the_first_view_is_light(client):
    """All files, charts included, as they go over the wire, with generous headers."""
    sent = {**everything(client), "chart.umd.js": client.get("/static/chart.umd.js")}
    weights = {name: int(answer.headers["content-length"]) + 1000 for name, answer in sent.items()}
    assert sum(weights.values()) <= FIRST_VIEW_BYTES, weights


def test_it_refers_to_no_other_host_and_to_nothing_by_an_absolute_path(client):
    for name, answer in everything(client).items():
        if answer.headers["content-type"].startswith("text/") and name not in VENDORED:
            assert not re.search(r"https?://|//[\w-]+\.\w|@import", answer.text), name
            assert not re.search(r"""(?:href|src|fetch\(|ask\(|open\()\s*=?\s*["'`]/""", answer.text), (
                name
            )


@pytest.mark.parametrize("name", ["", "static/page.js", "static/vik.json"])
def test_text_is_compressed_where_that_is_understood(client, name):
    plain = client.get(f"/{name}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with client.stream("GET", f"/{name}", headers={"Accept-Encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(raw) == plain.content


def test_answers_of_the_service_are_not_compressed(client):
    assert "content-encoding" not in client.get("/heads", headers={"Accept-Encoding": "gzip"}).headers


def test_what_a_browser_has_already_is_not_sent_again(client):
    first = client.get("/static/page.css")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/static/page.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get("/static/page.css", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_pictures_are_sent_byte_for_byte(client):
    sent = client.get("/static/red-top-left.jpg")
    assert sent.headers["content-type"] == "image/jpeg"
    file = ROOT.joinpath("page", "examples", "red-top-left.jpg").read_bytes()
    assert hashlib.sha256(sent.content).digest() == hashlib.sha256(file).digest()


@pytest.mark.parametrize(
    "path", ["/static/", "/static/none.js", "/static/..%2fsettings.py", "/static/index.html", "/page.js"]
)
def test_nothing_else_is_reachable(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
@pytest.mark.parametrize("path", ["/", "/static/page.js", "/static/red-top-left.jpg"])
def test_head_answers_with_the_headers_of_get(client, path, encoding):
    def asked(method):
        answer = client.request(method, path, headers={"Accept-Encoding": encoding})
        return answer.status_code, {
            name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}
        }

    assert asked("HEAD") == asked("GET")
    assert asked("HEAD")[0] == 200


@pytest.mark.parametrize("wanted", ["bytes=0-9", "bytes=99999999-", "lines=x"])
def test_a_part_of_a_file_cannot_be_requested(client, wanted):
    """A server may ignore the Range header (RFC 9110, section 14.2), and then sends the whole file."""
    whole = client.get("/static/page.css")
    assert client.get("/static/page.css", headers={"Range": wanted}).content == whole.content


def test_a_licence_is_text_that_a_browser_shows(client):
    assert client.get("/static/chart.umd.LICENSE").headers["content-type"].startswith("text/plain")


def test_the_etag_is_of_the_content_and_not_of_the_time_of_a_file(tmp_path):
    """Else a build with fixed file times would leave an old file of equal size in the browser."""
    files = [tmp_path / name for name in ("old.js", "new.js", "same.js")]
    for file, text in zip(files, ("let a = 1", "let a = 2", "let a = 1"), strict=True):
        file.write_text(text)
        os.utime(file, (0, 0))
    old, new, same = (StaticFile.of(file).etag for file in files)
    assert old != new
    assert old == same


def test_it_can_be_switched_off(connect):
    client = connect(page=False)
    assert client.get("/").status_code == 404
    assert client.get("/static/page.js").status_code == 404
    assert client.get("/heads").status_code == 200


def test_it_is_no_part_of_the_contract(client):
    assert not {"/", "/static/{name}"} & client.get("/openapi.json").json()["paths"].keys()
