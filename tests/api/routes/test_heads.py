import threading

from fakes import LABELS, backbone, fake_heads, head, picture
from stored import empty, heads_of
from waiting import wait_until


def test_every_head_is_listed_with_what_serves(client):
    heads = {entry["head"]: entry for entry in client.get("/heads").json()["heads"]}
    assert list(heads) == ["flatten", "gap"]
    gap = heads["gap"]["serving"]
    assert (gap["version"], gap["labels"]) == (1, list(LABELS))
    assert gap["input"]["resize"] == "bilinear"
    assert gap["parameters"] == gap["backbone"]["parameters"] + gap["structure"]["parameters"]
    assert gap["shares_with"] == ["flatten"]


def test_one_head_is_the_same_as_in_the_list(client):
    assert client.get("/heads/gap").json() in client.get("/heads").json()["heads"]


def test_heads_on_other_backbones_do_not_share(connect):
    shared = backbone()
    client = connect(fake_heads(head("a", on=shared), head("b", on=shared), head("c")))
    assert client.get("/heads/a").json()["serving"]["shares_with"] == ["b"]
    assert client.get("/heads/c").json()["serving"]["shares_with"] == []


def test_a_version_that_stays_out_is_listed_with_its_reason(connect):
    reasons = {2: "golden check: probabilities differ"}
    client = connect(
        fake_heads(head("gap"), failed={"gap": reasons, "lost": {1: "card.json is missing"}})
    )
    gap, lost = client.get("/heads").json()["heads"]
    assert gap["serving"]["version"] == 1
    assert gap["failed"] == [{"version": 2, "reason": reasons[2]}]
    assert lost["serving"] is None
    assert 'resnet_heads_failed_versions{head="lost",reason="other"} 1.0' in client.get("/metrics").text


def test_an_unknown_head_is_404(client):
    assert client.get("/heads/nope").status_code == 404


def test_while_heads_load_only_liveness_answers(connect):
    hold = threading.Event()
    client = connect(fake_heads(head("gap"), hold=hold), wait=False)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 503
    for response in (
        client.get("/heads"),
        client.get("/heads/gap"),
        client.post("/compare", content=picture()),
    ):
        assert response.status_code == 503
        assert "loading" in response.json()["detail"]
    hold.set()
    wait_until(lambda: client.get("/readyz").status_code == 200)
    assert client.post("/predict", content=picture()).status_code == 200


def test_readiness_needs_any_head_by_default(connect):
    client = connect(fake_heads(head("gap"), failed={"lost": {1: "damaged"}}))
    assert client.get("/readyz").json() == {"status": "ready", "heads": ["gap"]}
    broken = connect(fake_heads(failed={"lost": {1: "damaged"}}))
    assert broken.get("/readyz").status_code == 503
    assert "lost: version 1: damaged" in broken.get("/readyz").json()["detail"]


def test_readiness_needs_every_required_head(connect):
    client = connect(fake_heads(head("gap")), required_heads="gap, flatten")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert "flatten" in response.json()["detail"]
    assert client.post("/predict", content=picture()).status_code == 200


def test_an_empty_store_is_not_ready_and_says_what_to_run(connect, tmp_path):
    client = connect(heads_of(empty(tmp_path)))
    assert "resnet-heads init" in client.get("/readyz").json()["detail"]
    assert client.post("/compare", content=picture()).status_code == 503
    assert client.get("/heads").json() == {"heads": []}


def test_when_loading_fails_the_service_says_that_it_is_not_ready(connect):
    client = connect(fake_heads(head("gap"), error=RuntimeError("no engine")))
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
