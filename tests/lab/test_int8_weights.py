"""`quantize --head-weights int8`: the weights of a head's layers in a quarter of the bytes."""

import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import openvino as ov
import pytest
from fakes import picture
from keras_models import pixels
from process import serving
from stored import failures, load_on_keras, load_real, quantized
from waiting import wait_until

from service.benchmark.headroom import weight_bytes
from service.errors import CommandError
from service.lab.models.recompile import recompile
from service.lab.precision.choice import Choice
from service.lab.precision.quantize import quantize
from service.store.layout import CARD, Store

HEADS = ("gap", "flatten")
MADE = tuple(f"{head}-w8" for head in HEADS)
GRAPH = ("head/network.bin", "head/network.xml")


@pytest.fixture(scope="module")
def done(small_store, tmp_path_factory):
    """What the command said, and the store it worked on."""
    return quantized(small_store, tmp_path_factory.mktemp("w8"), *HEADS, "--head-weights", "int8")


@pytest.fixture(scope="module")
def store(done) -> Store:
    return done[0]


@pytest.fixture(scope="module")
def loaded(store):
    return load_real(store)


def constants(folder: Path) -> dict[str, np.ndarray]:
    """The constants of a head's graph by their type; each type is there once."""
    graph = ov.Core().read_model(folder / "network.xml")
    nodes = [node for node in graph.get_ops() if node.get_type_name() == "Constant"]
    return {node.get_element_type().to_string(): node.data.copy() for node in nodes}


def edited(store: Store, head: str, change) -> None:
    """Somebody changed a card."""
    file = store.folder(head, 1) / CARD
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))


def test_it_says_what_it_published_and_nothing_of_nncf(done):
    _, process = done
    assert process.returncode == 0, process.stderr
    assert [line for line in process.stdout.splitlines() if " version " in line] == [
        "gap-w8 version 1: 5 classes, head of 0.01 MB",
        "flatten-w8 version 1: 5 classes, head of 0.04 MB",
    ]
    assert process.stdout.count("what it costs in accuracy was not measured") == 2
    for noise in ("nncf", "INFO", "━", "│", "Traceback"):
        assert noise not in process.stdout + process.stderr


@pytest.mark.parametrize("head", HEADS)
def test_its_card_says_what_is_new_and_keeps_the_rest(store, head):
    before, after = store.read_card(head, 1), store.read_card(f"{head}-w8", 1)
    assert (after.precision, after.head_weights) == ("f32", "int8")
    assert (after.backbone, after.source, after.input) == (before.backbone, before.source, before.input)
    assert after.structure.digest != before.structure.digest
    assert after.structure.parameters == before.structure.parameters
    assert after.structure.pooling == before.structure.pooling
    file = store.folder(after.head, 1) / "head" / "network.bin"
    assert after.structure.weight_bytes == pytest.approx(file.stat().st_size, abs=64)
    assert after.structure.weight_bytes < 0.26 * before.structure.weight_bytes
    assert weight_bytes(before) - weight_bytes(after) == (
        before.structure.weight_bytes - after.structure.weight_bytes
    )
    assert tuple(sorted(after.quantization.files)) == GRAPH
    assert after.quantization.weight_bytes == 4 * before.backbone.parameters
    assert after.golden.probabilities == before.golden.probabilities


@pytest.mark.parametrize("head", HEADS)
def test_each_weight_is_within_half_a_step_of_what_it_was(store, head):
    """But the largest, whose steps end at 127 where those of the other sign end at 128."""
    before = constants(store.head_of(store.card(head, 1), "openvino"))
    after = constants(store.head_of(store.card(f"{head}-w8", 1), "openvino"))
    scale, kernel = after["f16"].astype(np.float32), after["i8"]  # A scale may be negative.
    (weights,) = (one for one in before.values() if one.size == kernel.size)
    if weights.shape != kernel.shape:
        weights = weights.T
    rounding = np.abs(weights).max(axis=1, keepdims=True) * 2.0**-10  # of the scale, to float16
    steps = np.where(kernel == 127, 1, 0.5)
    assert np.all(np.abs(kernel * scale - weights) <= np.abs(scale) * steps + rounding)


def test_its_heads_share_the_backbone_of_their_source(loaded):
    assert failures(loaded) == {}
    assert len({loaded.get(name).backbone for name in (*HEADS, *MADE)}) == 1


@pytest.mark.parametrize("head", MADE)
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8, 11])
def test_its_logits_are_those_of_its_stored_weights(store, loaded, head, rows):
    """By numpy, in float64: nothing else is rounded to int8."""
    features = loaded.get(head).backbone.network(pixels(rows, seed=rows)).copy()
    network = loaded.get(head).network
    probabilities, logits = network(features).copy(), network.logits().copy()
    kept = constants(store.head_of(store.card(head, 1), "openvino"))
    pooled = features.mean(axis=(1, 2), dtype=float) if head == "gap-w8" else features
    kernel = kept["i8"].astype(float) * kept["f16"].astype(float)
    expected = pooled.reshape(rows, -1).astype(float) @ kernel.T
    np.testing.assert_allclose(logits, expected, atol=3e-5 * np.abs(expected).max())
    powers = np.exp(expected - expected.max(axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_it_answers_a_little_otherwise_than_its_source(loaded, head):
    features = loaded.get(head).backbone.network(pixels(16, seed=9)).copy()
    answers = [loaded.get(name).network(features).copy() for name in (head, f"{head}-w8")]
    assert 1e-6 < np.abs(answers[1] - answers[0]).max() < 0.05


def test_the_keras_engine_refuses_it(store, copied):
    heads = load_on_keras(copied(store), *HEADS)
    assert set(heads.serving()) == {*HEADS}
    told = {1: "it is a head with int8 weights, which only the openvino engine runs."}
    assert failures(heads) == dict.fromkeys(MADE, told)


@pytest.mark.parametrize("file", GRAPH)
def test_a_damaged_file_keeps_out_its_head_and_no_other(store, copied, file):
    damaged = copied(store)
    path = damaged.folder("gap-w8", 1) / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    heads = load_real(damaged)
    told = f"{path.name} is damaged: its sha256 is not the recorded one."
    assert failures(heads) == {"gap-w8": {1: told}}
    path.unlink()
    assert failures(load_real(damaged))["gap-w8"][1].startswith(f"{path.name} cannot be read")


def test_a_graph_that_its_card_does_not_name_is_not_opened(store, copied):
    damaged = copied(store)
    edited(damaged, "gap-w8", lambda told: told["quantization"].update(files={}))
    assert failures(load_real(damaged)) == {"gap-w8": {1: "card.json names no files of its int8 graph."}}


def test_compile_derives_its_backbone_again_and_nothing_else(store, copied):
    copy = copied(store)
    shutil.rmtree(copy.root / ".compiled")
    recompile(copy, "flatten-w8", 1, "openvino")
    assert [path.name for path in (copy.root / ".compiled").iterdir()] == [
        copy.card("flatten", 1).backbone.digest
    ]
    recompile(copy, "flatten", 1, "openvino")
    assert {"flatten", "flatten-w8"} <= {*load_real(copy).serving()}


def test_it_answers_is_described_and_explained_over_http(store):
    with serving(store) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        described = client.get("/heads/flatten-w8").json()["serving"]
        both = client.post("/compare?heads=flatten,flatten-w8", content=picture()).json()
        explained = client.post("/explain?head=flatten-w8", content=picture()).json()
        metrics = client.get("/metrics").text
    assert (described["precision"], described["head_weights"]) == ("f32", "int8")
    assert described["shares_with"] == ["flatten", "gap", "gap-w8"]
    first, other = both["results"][0]["predictions"].values()
    assert [one["index"] for one in first] == [one["index"] for one in other]
    one = explained["results"][0]
    assert np.sum(one["grid"]) + one["constant"] == pytest.approx(one["logit"], rel=1e-4)
    assert 'resnet_heads_serving{head="flatten-w8",precision="f32",version="1"} 1.0' in metrics


def test_with_bf16_both_are_made_and_named(store, copied):
    both = copied(store)
    (made,) = quantize(both, [both.card("gap", 1)], Choice("bf16", "int8"), None, 0.5)
    assert (made.head, made.precision, made.head_weights) == ("gap-bf16-w8", "bf16", "int8")
    assert failures(load_real(both)) == {}


def test_it_is_not_made_of_what_was_made(store):
    with pytest.raises(CommandError, match="quantize made gap-w8 of gap; name that one"):
        quantize(store, [store.card("gap-w8", 1)], Choice("bf16"), None, 0.5)


def test_the_list_of_heads_shows_it(store, run_here):
    told = run_here("heads", "--store-dir", str(store.root)).stdout
    assert [line.split()[4:7] for line in told.splitlines() if line.startswith("gap-w8")] == [
        ["gap", "f32,", "int8"]
    ]
