import logging

import pytest
from fakes import picture
from prometheus_client.parser import text_string_to_metric_families


def samples(client):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_given_request_id_is_echoed_and_logged(client, caplog):
    with caplog.at_level(logging.INFO, "service.requests"):
        response = client.get("/healthz", headers={"X-Request-ID": "abc-123"})
    assert response.headers["x-request-id"] == "abc-123"
    assert "GET /healthz 200" in caplog.text
    assert "id=abc-123" in caplog.text


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
    assert told["resnet_heads_serving", ("head", "gap"), ("version", "1")] == 1
    assert told[("resnet_heads_pending_images",)] == 0
