"""`make check` finds secrets, and `make audit` vulnerable versions, or says that nothing was checked."""

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from process import reserved_port

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
PIN = f"idna==3.6 --hash=sha256:{'0' * 64}\n"
PLANTED = {
    "a cloud's key": "key = 'AKIA" + "QYLPMN5HHHFPZAM2'",
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE",
    "a password": "password = 'hunter2" + "-and-more'",
    "random text": "token = 'c3VwZXIgbG9uZyBzdHJpbmcgc2hvdWxkIGNhdXNl" + "IGVub3VnaCBlbnRyb3B5'",
}


def command(name, *arguments, **environment):
    return subprocess.run(
        [ROOT / ".ci" / name, *arguments],
        cwd=ROOT,
        env=os.environ | {"UV": str(UV)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("text", PLANTED.values(), ids=PLANTED)
def test_a_planted_secret_is_found(tmp_path, text):
    file = tmp_path / "settings.py"
    file.write_text(text)
    done = command("secrets", str(file))
    assert done.returncode == 1, done.stderr
    assert "settings.py" in done.stdout


@pytest.mark.slow  # `make check` looks as well
def test_there_is_no_secret_in_what_git_tracks():
    done = command("secrets")
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def advisories(vulnerable: str | None):
    """An advisory service that knows of one vulnerable package, or of none."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["package"]["name"]
            ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.7"}]}]
            affected = [{"package": {"name": asked, "ecosystem": "PyPI"}, "ranges": ranges}]
            known = {"id": "PYSEC-1", "summary": "made up", "affected": affected}
            body = json.dumps({"vulns": [known]} if asked == vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(20)


@pytest.fixture
def lock(tmp_path):
    (tmp_path / "a.lock").write_text(PIN)
    return str(tmp_path / "a.lock")


def test_versions_that_nobody_warns_of_pass(lock):
    with advisories(None) as url:
        done = command("audit", lock, OSV_URL=url)
    assert done.returncode == 0, done.stderr
    assert "no version" in done.stdout


def test_a_vulnerable_version_is_named(lock):
    with advisories("idna") as url:
        done = command("audit", lock, OSV_URL=url)
    assert done.returncode == 1, done.stderr
    assert "PYSEC-1" in done.stdout
    assert "3.7" in done.stdout


def test_where_no_service_answers_it_says_that_nothing_was_checked(lock):
    with reserved_port() as port:
        done = command("audit", lock, OSV_URL=f"http://127.0.0.1:{port}")
    assert done.returncode == 3
    assert "NOTHING WAS CHECKED" in done.stderr
    assert done.stdout == ""


def test_make_runs_both():
    makefile = (ROOT / "Makefile").read_text()
    check, audit = (makefile.split(f"\n{target}: ")[1].split("\n\n")[0] for target in ("check", "audit"))
    assert ".ci/secrets" in check
    assert ".ci/audit requirements*.lock" in audit
