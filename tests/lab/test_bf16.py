"""`quantize --to bf16`: the same files, computed in bfloat16 where the processor has it."""

import httpx
import numpy as np
import pytest
from fakes import picture
from PIL import Image
from process import run, serving
from stored import failures, load_on_keras, load_real, quantized
from waiting import wait_until

from service.errors import CommandError
from service.lab.precision.choice import Choice
from service.lab.precision.quantize import quantize
from service.serving.engines import open_engine
from service.store.layout import Store

HEADS = ("gap", "flatten")
HAS_BF16 = open_engine("openvino", 1).computes_in("bf16") == "bf16"
LARGEST = 0.05  # The tolerance of its golden check.
WITHOUT = {"ONEDNN_MAX_CPU_ISA": "AVX2"}  # As on a processor that has no bfloat16.
NO_BF16 = "this processor has no bf16; it computes in f32, and is no faster for it"


@pytest.fixture(scope="module")
def done(small_store, tmp_path_factory):
    """What the command said, and the store it worked on."""
    return quantized(small_store, tmp_path_factory.mktemp("bf16"), *HEADS, "--to", "bf16")


@pytest.fixture(scope="module")
def store(done) -> Store:
    return done[0]


@pytest.fixture(scope="module")
def loaded(store):
    return load_real(store)


def test_without_pictures_it_says_that_its_cost_was_not_measured(done):
    _, process = done
    assert process.returncode == 0, process.stderr
    assert "gap-bf16 version 1: 5 classes" in process.stdout
    assert process.stdout.count("what it costs in accuracy was not measured") == 2


@pytest.mark.parametrize("head", HEADS)
def test_its_card_and_files_are_those_of_its_source(store, head):
    before, after = store.card(head, 1), store.card(f"{head}-bf16", 1)
    assert (after.precision, after.head_weights) == ("bf16", "f32")
    assert (after.backbone, after.structure, after.source) == (
        before.backbone,
        before.structure,
        before.source,
    )
    assert store.source_of(after).samefile(store.source_of(before)), "a link, and no copy"
    told = after.quantization
    assert (told.source_head, told.source_version, told.files) == (head, 1, {})
    assert told.weight_bytes == 2 * before.backbone.parameters
    assert {told.accuracy_before, told.accuracy_after, told.agreement, told.largest_change} == {None}
    assert after.golden.probabilities == before.golden.probabilities
    assert after.golden.tolerance > before.golden.tolerance


def test_bf16_heads_share_one_backbone_and_not_with_those_in_float32(loaded):
    assert failures(loaded) == {}
    gap, flatten, before = (loaded.get(name).backbone for name in ("gap-bf16", "flatten-bf16", "gap"))
    assert gap is flatten
    assert (gap is before) == (not HAS_BF16)


@pytest.mark.parametrize("head", HEADS)
def test_it_answers_a_little_otherwise_than_in_float32(loaded, head):
    from keras_models import pixels

    pictures = pixels(16, seed=9)
    full, low = (loaded.get(name) for name in (head, f"{head}-bf16"))
    features = full.backbone.network(pictures).copy(), low.backbone.network(pictures).copy()
    assert features[1].dtype == np.float32
    assert np.array_equal(*features) == (not HAS_BF16)
    answers = full.network(features[0]).copy(), low.network(features[1]).copy()
    assert np.abs(answers[1] - answers[0]).max() < LARGEST
    np.testing.assert_array_equal(low.network(features[0]), answers[0], "heads compute in float32")


def test_the_keras_engine_refuses_it_also_where_it_has_that_backbone_in_float32(store, copied):
    heads = load_on_keras(copied(store), *HEADS)
    assert set(heads.serving()) == {*HEADS}
    told = {1: "it is a bf16 head, which only the openvino engine runs."}
    assert failures(heads) == {"gap-bf16": told, "flatten-bf16": told}


def test_it_is_described_and_answers_name_their_precision(store):
    with serving(store) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        answer = client.post("/explain?head=gap-bf16", content=picture()).json()
        described = client.get("/heads/gap-bf16").json()["serving"]
    expected = "bf16" if HAS_BF16 else "f32"
    assert (described["precision"], described["computes_in"]) == ("bf16", expected)
    assert described["quantization"]["accuracy_after"] is None
    assert answer["precision"] == expected
    one = answer["results"][0]
    assert np.sum(one["grid"]) + one["constant"] == pytest.approx(one["logit"], abs=1e-3)


def test_on_a_processor_without_it_the_head_answers_in_float32_and_says_so(store):
    with (
        serving(store, **WITHOUT) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        described = client.get("/heads/gap-bf16").json()["serving"]
        assert (described["precision"], described["computes_in"]) == ("bf16", "f32")
        assert described["shares_with"] == ["flatten", "flatten-bf16", "gap"]
        assert NO_BF16 in "".join(server.lines)


def test_its_cost_is_not_measured_where_it_is_not_computed(store, tmp_path):
    from keras_models import LABELS, pixels

    for at, values in enumerate(pixels(30, seed=3)):
        (tmp_path / LABELS[at % 5]).mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / LABELS[at % 5] / f"{at}.png")
    words = ["quantize", "gap", "--to", "bf16", "--images", str(tmp_path)]
    asked = run(*words, "--store-dir", str(store.root), **WITHOUT)
    assert asked.returncode == 2
    assert "This processor has no bf16" in asked.stderr


def test_a_head_is_not_lowered_twice(store):
    with pytest.raises(CommandError, match="quantize made gap-bf16 of gap; name that one"):
        quantize(store, [store.card("gap-bf16", 1)], Choice("bf16"), None, 0.5)
