"""The server keeps openapi.yaml, as somebody else's tool reads it: schemathesis, with all its checks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml
from experiment_records import measured, report
from fakes import LinearHead, backbone, fake_heads, head
from live import running
from waiting import wait_until

from service.app import create_app
from service.benchmark.report import Report
from service.settings import Settings

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONTRACT = ROOT / "openapi.yaml"
KEY = "the-key"
COMPUTING = (
    "/predict",
    "/compare",
    "/explain",
    "/shift",
    "/v1/models/{head}:predict",
    "/v2/models/{head}/infer",
)
TOOL = Path(sys.executable).with_name("schemathesis")
LIMIT_S = 600
PATHS = os.pathsep.join(map(str, (ROOT, ROOT / "tests", HERE)))


@dataclass
class MadeUpBench:
    """Measures in no time."""

    kept: Report = field(default_factory=lambda: report(measured("gap", 1, 1)))

    def measure(self, *_: object) -> Report:
        return self.kept

    def last(self, _: object) -> Report:
        return self.kept


def application():
    on = backbone()
    heads = fake_heads(head("gap", LinearHead(), on=on), head("flatten", LinearHead(), on=on))
    app = create_app(
        Settings(max_queued_images=10_000, max_wait_s=1000, max_images_per_request=1000, api_keys=KEY),
        heads_=heads,
    )
    app.state.context = replace(app.state.context, bench=MadeUpBench())
    return app


def examine(app, folder: Path, *more: str) -> tuple[dict, str]:
    """The report of schemathesis on a server of this application, and what it printed."""
    told = folder / "report.json"
    command = [TOOL, "--config-file", HERE / "schemathesis.toml", "run", CONTRACT, "--checks", "all"]
    command += ["--header", f"X-API-Key: {KEY}", "--seed", "1", "--continue-on-failure", "--no-shrink"]
    command += ["--suppress-health-check", "all", "--generation-database", "none", "--no-color"]
    command += ["--report", "json", "--report-json-path", told, *more]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": PATHS}
    with running(app) as url:
        wait_until(lambda: not app.state.context.heads.is_loading)
        done = subprocess.run(
            [*command, "--url", url],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    assert told.exists(), done.stdout + done.stderr
    return json.loads(told.read_text()), done.stdout


def test_every_operation_passes_every_check(tmp_path):
    told, printed = examine(application(), tmp_path, "--max-examples", "25")
    assert not told["failures"], printed
    assert not told["errors"], printed
    operations = sum(map(len, yaml.safe_load(CONTRACT.read_text())["paths"].values()))
    assert told["operations"]["tested"] == told["operations"]["total"] == operations
    reached = {name for name, rates in told["valid_rates"].items() if rates["fuzzing"]["accepted"]}
    assert {f"POST {path}" for path in COMPUTING} <= reached


def leaving_out_the_problem(app) -> Callable:
    """Middleware that answers refusals with plain text, as a careless framework would."""

    async def careless(scope, receive, send):
        async def send_plain(message):
            if message["type"] == "http.response.start" and message["status"] >= 400:
                plain = (b"content-type", b"text/plain")
                kept = [pair for pair in message["headers"] if pair[0] != plain[0]]
                message = message | {"headers": [*kept, plain]}
            await send(message)

        await app(scope, receive, send_plain)

    careless.state = app.state
    return careless


@pytest.mark.slow
def test_a_server_that_breaks_the_contract_is_found(tmp_path):
    told, _ = examine(leaving_out_the_problem(application()), tmp_path, "--max-examples", "2")
    assert {"UndefinedContentType"} <= {failure["type"] for failure in told["failures"]}
