"""deploy/alerts.yaml against what a real server exposes, and against Prometheus' own promtool."""

import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import documents
import httpx
import pytest
import yaml
from fakes import FakeEngine, HeldBackbone, picture, publish
from firing import CASES, Case
from live import running
from prometheus_client.parser import text_string_to_metric_families
from stored import filled, heads_of
from waiting import PATIENCE_S, wait_until

from service.app import create_app
from service.settings import Settings
from service.store.card import Golden
from service.store.layout import CARD

NO_SKIP = "RESNET_HEADS_NO_SKIP"
ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "alerts.yaml"
RULES = [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]]
NAMES = [rule["alert"] for rule in RULES]
SCRAPE_LABELS = {"job", "instance"}  # Prometheus adds them

Exposed = dict[str, list[dict[str, str]]]


@dataclass(frozen=True)
class Selector:
    """`name{label op "value", ...}` of a query or of a case's series."""

    name: str
    matchers: list[tuple[str, str, str]]


def selectors(text: str) -> list[Selector]:
    found = re.findall(r"(resnet_heads_\w+)(?:\{([^}]*)\})?", text)
    return [
        Selector(name, re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers)) for name, matchers in found
    ]


@pytest.fixture(scope="module")
def exposition(tmp_path_factory) -> str:
    """What a server says that has answered, refused, failed, and kept versions out."""
    folder = tmp_path_factory.mktemp("alerts")
    store = filled(folder)
    wrong = Golden.model_construct(image=picture("red"), probabilities=(0.5, 0.3, 0.2))
    for golden in ({}, {"golden": wrong}, {}):
        publish(store, "gap", **golden)
    (store.folder("gap", 3) / CARD).unlink()
    publish(store, "lost", golden=wrong)
    network = HeldBackbone()
    network.release.set()
    heads = heads_of(store, lambda: FakeEngine(nb=network), max_batch_size=1)
    app = create_app(Settings(max_batch_size=1, max_queued_images=1), heads_=heads)
    with running(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        network.entered.clear()
        network.release.clear()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.post, "/predict", content=picture())
            assert network.entered.wait(PATIENCE_S)
            assert client.post("/predict", content=picture()).status_code == 429
            network.release.set()
            assert first.result().status_code == 200
        assert client.post("/predict?head=lost", content=picture()).status_code == 503
        client.post("/predict", content=b"text")
        client.get("/healthz")
        client.get("/metrics")
        return client.get("/metrics").text


@pytest.fixture(scope="module")
def exposed(exposition) -> Exposed:
    """The labels of every series, by name."""
    told: Exposed = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            told.setdefault(sample.name, []).append(sample.labels)
    return told


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_a_query_asks_for_what_the_server_exposes(rule, exposed):
    assert selectors(rule["expr"])
    for selector in selectors(rule["expr"]):
        assert selector.name in exposed
        for label, operator, value in selector.matchers:
            there = {labels[label] for labels in exposed[selector.name]}
            # what is left out has to be there as well, or leaving it out is a slip
            patterns = value.split("|") if operator == "!~" else [value]
            for pattern in patterns:
                assert any(re.fullmatch(pattern, one) for one in there), (label, pattern, there)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_a_query_groups_by_labels_that_are_there(rule, exposed):
    there = {
        label
        for selector in selectors(rule["expr"])
        for labels in exposed[selector.name]
        for label in labels
    }
    grouped = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", rule["expr"])
    named = {label.strip() for group in grouped for label in group.split(",")}
    assert named <= there | SCRAPE_LABELS


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_says_what_to_do_and_so_do_the_documents(rule):
    assert rule["labels"]["severity"] in ("critical", "warning")
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook"}
    row = [f"`{rule['alert']}`", rule["labels"]["severity"], said["runbook"]]
    assert row in documents.rows("alert")


def test_the_documents_tell_no_alert_that_is_gone():
    assert [row[0].strip("`") for row in documents.rows("alert")] == NAMES


def test_the_documents_tell_every_metric_and_no_other(exposition):
    names = {family.name for family in text_string_to_metric_families(exposition)}
    told = {row[0].strip("`") for row in documents.rows("metric")}
    assert {name.removesuffix("_total") for name in told} == {
        name
        for name in names
        if not name.endswith("_created")  # when a counter began, of no use
    }


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_is_seen_to_fire_and_not_to(name):
    assert {bool(case.fires) for case in CASES if case.alert == name} == {True, False}


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_annotations_use_labels_that_the_alert_has(rule):
    used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    for case in CASES:
        for labels in case.fires if case.alert == rule["alert"] else ():
            assert used <= set(labels)


def test_what_the_cases_imagine_is_what_the_server_exposes(exposed):
    for case in CASES:
        for selector in selectors(" ".join(case.series)):
            labels = {label for label, *_ in selector.matchers} - SCRAPE_LABELS
            assert labels in [set(there) for there in exposed[selector.name]], selector


@pytest.fixture(scope="module")
def promtool() -> str:
    """Debian's, of the package `prometheus`."""
    program = shutil.which("promtool")
    if program is None:
        assert not os.environ.get(NO_SKIP), "promtool is not installed, and nothing may be skipped here"
        pytest.skip("promtool is not installed")
    return program


def check(*command: str, given: str | None = None) -> None:
    """It must succeed and have nothing to say on its error stream."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules(promtool):
    check(promtool, "check", "rules", str(FILE))


def test_promtool_accepts_the_metrics(promtool, exposition):
    check(promtool, "check", "metrics", given=exposition)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.about}")
def test_an_alert_fires_when_it_should_and_only_then(case: Case, promtool, tmp_path):
    """On the rules without their annotations: promtool would have them repeated."""
    (rule,) = (rule for rule in RULES if rule["alert"] == case.alert)
    bare = {name: value for name, value in rule.items() if name != "annotations"}
    write(tmp_path / "rules.yaml", {"groups": [{"name": "tested", "rules": [bare]}]})
    expected = [{"exp_labels": labels | rule["labels"]} for labels in case.fires]
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    alerts = [{"eval_time": f"{case.minutes}m", "alertname": case.alert, "exp_alerts": expected}]
    test = {"interval": "1m", "input_series": series, "alert_rule_test": alerts}
    write(tmp_path / "test.yaml", {"rule_files": ["rules.yaml"], "tests": [test]})
    check(promtool, "test", "rules", str(tmp_path / "test.yaml"))


def write(path: Path, document: dict) -> None:
    path.write_text(json.dumps(document))  # which is YAML too
