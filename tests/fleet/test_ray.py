"""The service on a real Ray cluster: the same answers, more replicas under load, a lost node."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import documents
import httpx
import pytest
import yaml
from fakes import picture
from load.run import load
from process import serving
from ray_cluster import two_nodes

pytestmark = pytest.mark.fleet

ROOT = Path(__file__).parents[2]
KEY = {"X-API-Key": "a-key"}
KEYS = {"RESNET_HEADS_API_KEYS": KEY["X-API-Key"]}
SETTINGS = {"RESNET_HEADS_MAX_BODY_BYTES": "1000000"}
LINES = documents.commands("serve ")
CLIENTS = 12  # more than target_ongoing_requests, less than twice that
IMAGES = [("file", picture(colour, (64, 64))) for colour in ("red", "green", "blue", "red")]
DEPLOY_S = 120
SCALE_S = 90
REST_S = 0.2  # between a refusal and the next try: less than told, to keep the load up
MEASURED = ("date", "x-request-id", "server-timing", "content-length", "server")


@pytest.fixture(scope="module")
def cluster(small_store, tmp_path_factory):
    """Two nodes on which the first documented line has run; their Ray looks at its load more often."""
    folder = tmp_path_factory.mktemp("ray")
    config = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text())
    (application,) = config["applications"]
    (deployment,) = application["deployments"]
    application["runtime_env"]["env_vars"] |= SETTINGS | {
        "RESNET_HEADS_STORE_DIR": str(small_store.root),
        "RESNET_HEADS_CACHE_DIR": str(small_store.cache),
    }
    deployment["ray_actor_options"]["num_cpus"] = 1
    deployment["autoscaling_config"] |= {"upscale_delay_s": 1, "look_back_period_s": 3}
    often = ("REPLICA_AUTOSCALING_METRIC_PUSH", "HANDLE_AUTOSCALING_METRIC_PUSH")
    environment = {f"RAY_SERVE_{what}_INTERVAL_S": "0.5" for what in often}
    environment["RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING"] = "0"  # as documented, for one proxy
    with two_nodes(**KEYS, **environment) as cluster:
        config["http_options"] |= {"host": "127.0.0.1", "port": cluster.port}
        (folder / "deploy/ray").mkdir(parents=True)
        (folder / "deploy/ray/serve.yaml").write_text(yaml.safe_dump(config))
        deploy, status = LINES
        cluster.serve(deploy, folder)
        cluster.wait_until(lambda: cluster.application()["status"] != "DEPLOYING", DEPLOY_S)
        assert "status: RUNNING" in cluster.serve(status, folder), cluster.application()
        yield cluster


@pytest.fixture(scope="module")
def on_ray(cluster):
    with httpx.Client(base_url=f"http://127.0.0.1:{cluster.port}", headers=KEY, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def plain(small_store):
    with (
        serving(small_store, **KEYS, **SETTINGS, RESNET_HEADS_THREADS="1") as server,
        httpx.Client(base_url=server.url, headers=KEY, timeout=60) as client,
    ):
        yield client


def told(answer):
    """All of an answer but what was measured, and the ids."""
    is_json = answer.headers.get("content-type", "").endswith("json")
    body = answer.json() if is_json else answer.content
    if is_json:
        body.pop("timing_ms", None)
    headers = [pair for pair in answer.headers.multi_items() if pair[0] not in MEASURED]
    return answer.status_code, sorted(headers), names(answer), body


def names(answer):
    """Of its headers, but the one by which Ray's proxy names its server: ours names none."""
    return sorted(set(answer.headers) - {"server"})


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("POST", "/predict?head=gap&top_k=5", {"content": picture("red", (80, 60))}, 200),
        ("POST", "/predict?head=flatten", {"files": IMAGES}, 200),
        ("POST", "/compare", {"files": IMAGES}, 200),
        ("POST", "/explain?head=gap", {"content": picture("green", (64, 64))}, 200),
        ("POST", "/explain?head=gap&format=png", {"content": picture("green", (64, 64))}, 200),
        ("POST", "/shift", {"content": picture("blue", (64, 64))}, 200),
        ("GET", "/heads", {}, 200),
        ("GET", "/heads/flatten", {}, 200),
        ("GET", "/readyz", {}, 200),
        ("GET", "/", {}, 200),
        ("GET", "/openapi.json", {}, 200),
        ("POST", "/predict?head=nobody", {"content": picture()}, 404),
        ("GET", "/nowhere", {}, 404),
        ("GET", "/predict", {}, 405),
        ("POST", "/predict?colour=red", {"content": picture()}, 422),
        ("POST", "/predict", {"content": b"no image"}, 422),
        ("POST", "/predict", {"content": bytes(1_000_001)}, 413),
        ("POST", "/predict", {"content": [bytes(600_000)] * 2}, 413),
        ("GET", "/heads", {"headers": {"X-API-Key": "another"}}, 401),
    ],
)
def test_it_answers_as_serve_does(on_ray, plain, method, path, more, status):
    ours, theirs = (client.request(method, path, **more) for client in (on_ray, plain))
    assert ours.status_code == status
    assert told(ours) == told(theirs)


def test_the_request_id_is_echoed_once_and_names_the_request_in_the_replica_s_log(cluster, on_ray):
    answer = on_ray.post("/predict", content=picture(), headers={"X-Request-ID": "mine-1"})
    assert answer.headers.get_list("x-request-id") == ["mine-1"]
    timing = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"]))
    assert {stage: float(ms) for stage, ms in timing.items()} == pytest.approx(
        answer.json()["timing_ms"], abs=1e-3
    )
    (told,) = (log for log in map(cluster.log, cluster.replicas()) if "[mine-1]" in log)
    assert "[mine-1]: POST /predict 200" in told


def test_a_replica_computes_with_the_cpus_that_ray_gave_it(on_ray):
    """One core, as the report of a benchmark says, whose progress streams meanwhile."""
    plan = {"heads": ["gap"], "batch_sizes": [1], "seconds": 2}
    told = {}
    with on_ray.stream(
        "POST", "/benchmark", json=plan, headers={"Accept": "text/event-stream"}
    ) as answer:
        lines = [(time.monotonic(), line) for line in answer.iter_lines()]
    for (at, event), (_, data) in pairwise(lines):
        if event.startswith("event: "):
            told.setdefault(event.removeprefix("event: "), (at, json.loads(data.removeprefix("data: "))))
    assert told["report"][1]["threads"] == 1
    assert told["report"][0] - told["progress"][0] > 0.5


def test_a_burst_is_refused_as_serve_refuses_it(on_ray, plain):
    def burst(client):
        many = [("file", picture("red", (64, 64)))] * 30
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.post("/predict", files=many), range(8)))
        refused = [answer for answer in answers if answer.status_code != 200]
        assert 0 < len(refused) < 8
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        return {(answer.json()["type"], *names(answer)) for answer in refused}

    assert burst(on_ray) == burst(plain)


@pytest.fixture
def under_load(on_ray, tmp_path):
    """`with under_load(name=name) as running`: clients who each send the next request after the last."""
    request = on_ray.build_request("POST", "/predict", files=IMAGES)
    body = tmp_path / "images"
    body.write_bytes(request.read())
    headers = KEY | {"Content-Type": request.headers["Content-Type"]}
    return partial(load, [str(request.url)], body, headers=headers, clients=CLIENTS, rest=REST_S)


def answered_by(cluster, pid, name):
    """The ids of the requests of a load that a replica says it answered with 200."""
    return set(re.findall(rf"\[({name}-\d+)\]: \S+ \S+ 200", cluster.log(pid)))


def both(cluster):
    """The replicas of the two nodes, that on the head first, once they are there."""
    cluster.wait_until(lambda: len(cluster.replicas()) == 2, SCALE_S)
    replicas = set(cluster.replicas())
    (on_head,), (on_worker,) = replicas & cluster.head.pids(), replicas & cluster.worker.pids()
    return on_head, on_worker


def test_a_second_replica_comes_under_load_on_the_other_node_and_answers(cluster, under_load, ledger):
    (first,) = cluster.replicas()
    with under_load(name="scale") as running:
        (second,) = {*both(cluster)} - {first}
        cluster.wait_until(lambda: len(answered_by(cluster, second, "scale")) > CLIENTS, SCALE_S)
    ledger.add(running.statuses(), "1 to 2 replicas")
    assert running.statuses().keys() <= {200, 429}
    by_first, by_second = (answered_by(cluster, one, "scale") for one in (first, second))
    assert not by_first & by_second
    assert by_first | by_second == {one.id for one in running.of(200)}


def test_a_node_killed_under_load_costs_what_was_in_flight_on_it(cluster, under_load, ledger):
    with under_load(name="kill") as running:
        left, lost = both(cluster)
        cluster.wait_until(lambda: len(answered_by(cluster, lost, "kill")) > CLIENTS, SCALE_S)
        killing = time.monotonic()
        cluster.worker.kill()
        killed = time.monotonic()
        more = len(answered_by(cluster, left, "kill")) + 10 * CLIENTS
        cluster.wait_until(lambda: len(answered_by(cluster, left, "kill")) > more, SCALE_S)
    ledger.add(running.statuses(), f"at most {CLIENTS} in flight")
    assert not cluster.worker.pids()
    answered, failed = {one.id for one in running.of(200)}, running.failed()
    assert {one.status for one in failed} <= {500, 504, 0}, "Ray's own, a missed deadline, or none"
    assert len(failed) <= CLIENTS
    assert all(one.due < killed and one.finished > killing for one in failed), "it was not in flight"
    by_left, by_lost = (answered_by(cluster, one, "kill") for one in (left, lost))
    assert by_left | by_lost <= answered | {one.id for one in failed}
    unlogged = [one for one in running.of(200) if one.id not in by_left | by_lost]
    assert len(unlogged) <= CLIENTS
    assert all(one.finished <= killed + 1 for one in unlogged), "only the log's last lines died with it"
    assert by_left >= {one.id for one in running.of(200, since=killed)}
