import threading

import httpx
import pytest
from fakes import BrokenHead, backbone, fake_heads, head, picture
from live import running
from prometheus_client.parser import text_string_to_metric_families
from waiting import wait_until

import service
from service.app import create_app
from service.settings import Settings


def samples(client):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_given_request_id_is_echoed(client):
    response = client.get("/healthz", headers={"X-Request-ID": "abc-123"})
    assert response.headers["x-request-id"] == "abc-123"


@pytest.mark.parametrize("given", ["", "with space", "x" * 129, "tab\there"])
def test_a_missing_or_odd_request_id_is_replaced(client, given):
    made = client.get("/healthz", headers={"X-Request-ID": given}).headers["x-request-id"]
    assert len(made) == 32
    assert made.isalnum()


def test_errors_carry_the_request_id(client):
    response = client.post("/predict", content=b"text", headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.headers["x-request-id"]) == (422, "mine")


def test_requests_and_stages_are_counted(client):
    for _ in range(3):
        client.post("/predict", content=picture())
    client.post("/predict", content=b"text")
    client.get("/no/such/route")
    told = samples(client)
    assert told["resnet_heads_requests_total", ("route", "/predict"), ("status", "200")] == 3
    assert told["resnet_heads_requests_total", ("route", "/predict"), ("status", "422")] == 1
    assert told["resnet_heads_requests_total", ("route", "unmatched"), ("status", "404")] == 1
    for stage in ("decode", "queue", "inference", "total"):
        assert told["resnet_heads_stage_seconds_count", ("stage", stage)] == 3
    assert told["resnet_heads_serving", ("head", "gap"), ("precision", "f32"), ("version", "1")] == 1
    assert told[("resnet_heads_pending_images",)] == 0


def test_the_bound_of_the_queue_and_the_deadline_are_told(connect):
    told = samples(connect(max_queued_images=7, request_timeout_s=2.5))
    assert told[("resnet_heads_max_queued_images",)] == 7
    assert told[("resnet_heads_request_timeout_seconds",)] == 2.5


@pytest.mark.parametrize("request_timeout_s", [0.5, 10, 60])
def test_stages_are_told_apart_at_80_percent_of_the_deadline(connect, request_timeout_s):
    client = connect(request_timeout_s=request_timeout_s)
    client.post("/predict", content=picture())
    bounds = {
        float(dict(labels)["le"])
        for name, *labels in samples(client)
        if name == "resnet_heads_stage_seconds_bucket"
    }
    assert {0.8 * request_timeout_s, request_timeout_s} <= bounds
    assert max(bounds - {float("inf")}) == request_timeout_s


def refusals(client):
    """How many of each reason, without those of which there are none."""
    return {
        key[1][1]: value
        for key, value in samples(client).items()
        if key[0] == "resnet_heads_refusals_total" and value
    }


def test_refusals_are_counted_by_the_kind_of_their_problem(connect):
    client = connect(
        fake_heads(head("gap"), head("broken", BrokenHead())), max_body_bytes=1000, api_keys="k"
    )
    client.post("/predict", content=picture())
    client.headers["X-API-Key"] = "k"
    for content in (picture(), b"text", b"text", bytes(2000)):
        client.post("/predict", content=content)
    client.post("/predict?head=broken", content=picture())
    client.post("/predict?top_k=many", content=picture())
    client.get("/no/such/route")
    client.get("/predict")
    assert refusals(client) == {
        "not-authorized": 1,
        "not-an-image": 2,
        "body-too-large": 1,
        "engine-failed": 1,
        "bad-parameter": 1,
        "not-found": 1,
        "method-not-allowed": 1,
    }


def test_reasons_are_there_before_they_are_needed(client):
    """Prometheus sees no increase where a counter begins with 1."""
    told = samples(client)
    for reason in ("too-busy", "deadline-exceeded", "internal", "not-ready", "client-gone"):
        assert told["resnet_heads_refusals_total", ("reason", reason)] == 0


def test_images_are_counted_by_the_head_that_answered(connect):
    shared = backbone()
    client = connect(
        fake_heads(
            head("gap", on=shared, version=3),
            head("flatten", on=shared),
            head("broken", BrokenHead(), on=shared),
        )
    )
    client.post("/predict", files=[("file", picture())] * 3)
    client.post("/compare?heads=gap,flatten", content=picture())
    client.post("/predict?head=broken", content=picture())
    told = samples(client)
    assert told["resnet_heads_images_total", ("head", "gap"), ("version", "3")] == 4
    assert told["resnet_heads_images_total", ("head", "flatten"), ("version", "1")] == 1
    assert not any("broken" in str(key) for key in told if key[0] == "resnet_heads_images_total")


def test_batches_are_told_by_their_size(client):
    for _ in range(3):
        client.post("/predict", content=picture())
    told = samples(client)
    assert told["resnet_heads_batch_images_bucket", ("le", "1.0")] == 3
    assert told[("resnet_heads_batch_images_sum",)] == 3


def test_nothing_that_a_client_makes_up_becomes_a_label(client):
    for name in ("made-up-1", "made-up-2"):
        client.post(f"/predict?head={name}", content=picture())
        client.post(f"/compare?heads={name}", content=picture())
        client.get(f"/heads/{name}")
        client.get(f"/{name}", headers={"X-Request-ID": name})
        client.post(f"/predict?{name}=1", content=picture())
    assert "made-up" not in client.get("/metrics").text.lower()


def test_readiness_and_what_runs_are_told(connect):
    told = samples(connect())
    assert told[("resnet_heads_ready",)] == 1
    assert ("resnet_heads_build_info", ("engine", "openvino"), ("version", service.__version__)) in told
    assert samples(connect(required_heads="lost"))[("resnet_heads_ready",)] == 0


def test_a_service_that_stops_is_not_ready():
    stopping, heads = threading.Event(), fake_heads()
    app = create_app(Settings(), heads_=heads, stopping=stopping)
    with running(app) as url, httpx.Client(base_url=url) as client:
        wait_until(lambda: samples(client)[("resnet_heads_ready",)] == 1)
        stopping.set()
        assert samples(client)[("resnet_heads_ready",)] == 0
