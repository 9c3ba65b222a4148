"""Saved models as people have them: the command line imports each, and its own framework is the oracle.

tests/cases/models holds the files, and of each the answers that the framework gave which wrote it.
"""

import json
import shutil

import numpy as np
import pytest
from model_files import SPECS, architecture, model_file, picture_files
from stored import heads_of

from service.lab.models.recompile import recompile
from service.serving.engines import open_engine
from service.serving.pixels.decode import decode
from service.store.layout import COMPILED, Store, sha256_of

MAX_SENTENCE = 300
# What the specifications leave open, and we promise.
OURS = {"k2-json-weights": "refused", "k3-lambda-preprocess": "refused"}
# One of each kind; the others take the same ways.
QUICK = {
    "k1-old-flatten",
    "k2-checkpoint-only",
    "k2-json-weights",
    "k2-savedmodel-gap",
    "k2-sequential-gap-keras",
    "k2-tutorial-preprocess-inside-h5",
    "k3-concat-gap-gmp",
    "k3-custom-train-step",
    "k3-lambda-preprocess",
    "k3-multi-label-keras",
    "k3-one-logit-h5",
    "k3-vgg16-flatten",
    "k333-sequential-no-shape",
}


def cases():
    for name in SPECS:
        yield pytest.param(name, marks=() if name in QUICK else (pytest.mark.slow,))


@pytest.fixture
def imported(run_here, tmp_path):
    """Imports a case into an empty store, as a user does who knows the training."""

    def run(name, *more):
        spec, labels = SPECS[name], tmp_path / "labels.txt"
        labels.write_text("\n".join(spec["labels"]))
        words = ("import", str(model_file(name)), "--head", "case", "--labels", str(labels))
        return run_here(*words, *flags(spec), *more, "--store-dir", str(tmp_path / "store"))

    return run


def flags(spec):
    """What a user says who knows the training."""
    is_said = "flags" not in spec or "--preprocessing" in spec["flags"] or spec["pixels"] == "unit"
    said = (
        ["--preprocessing", spec["pixels"]] if is_said and not spec.get("preprocessing_inside") else []
    )
    size = ["--size", str(spec["size"])] if "--size" in spec.get("flags", ()) else []
    return ["--resize", "bilinear", *said, *size]


def check_served(store, name):
    """Whether the head answers as the framework that wrote the file."""
    spec = SPECS[name]
    heads = heads_of(store, lambda: open_engine("openvino", 2))
    heads.load()
    head = heads.get("case")
    pixels = [decode(one.read_bytes(), head.card.input, 10**6) for one in picture_files(name)]
    answers = head.network(head.backbone.network.another()(np.stack(pixels)))
    within = spec["should"].get("within", 1e-4)
    np.testing.assert_allclose(answers, spec["probabilities"], rtol=0, atol=within)
    assert head.card.labels == tuple(spec["labels"])


@pytest.mark.parametrize("name", list(cases()))
def test_a_genuine_file_is_served_as_its_framework_did_or_refused(name, imported, tmp_path):
    spec, beside = SPECS[name], architecture(name) if name not in OURS else None
    ended = imported(name, *([f"--architecture={beside}"] if beside else []))
    should = OURS.get(name) or spec["should"]["result"]
    assert ended.returncode == (2 if should == "refused" else 0), ended.stderr
    store = Store(tmp_path / "store", tmp_path / "cache")
    if ended.returncode:
        (sentence,) = ended.stderr.strip().splitlines()
        assert len(sentence) <= MAX_SENTENCE
        assert store.heads() == []
        return
    check_served(store, name)
    if "flags" in spec:
        assert ("found preprocessing inside" in ended.stdout) == spec["preprocessing_inside"]


def test_weights_alone_are_served_with_their_architecture(imported, tmp_path):
    name = "k2-json-weights"
    assert "holds weights and no model" in imported(name).stderr
    assert imported(name, "--architecture", str(architecture(name))).returncode == 0
    store = Store(tmp_path / "store", tmp_path / "cache")
    check_served(store, name)
    assert set(store.card("case", 1).source.files) == {"model.h5", "architecture.json"}


def test_a_lambda_that_only_names_a_function_is_served_when_it_is_said_whose(imported, tmp_path):
    name = "k3-lambda-preprocess"
    assert "does not say whose function" in imported(name).stderr
    assert imported(name, "--preprocessing", "caffe").returncode == 0
    check_served(Store(tmp_path / "store", tmp_path / "cache"), name)


def compiled(store):
    """The digests of the compiled weights in a store, by path."""
    files = sorted((store.root / COMPILED).rglob("*.bin"))
    return {str(file.relative_to(store.root)): sha256_of(file) for file in files}


@pytest.mark.parametrize("name", ["k1-old-flatten", "k2-savedmodel-gap", "k2-sequential-gap-keras"])
def test_what_is_derived_from_a_source_of_any_format_can_be_derived_again(name, imported, tmp_path):
    assert imported(name).returncode == 0
    store = Store(tmp_path / "store", tmp_path / "cache")
    before = compiled(store)
    assert before
    shutil.rmtree(store.root / COMPILED)
    recompile(store, "case", 1, "openvino")
    assert compiled(store) == before
    check_served(store, name)


def test_a_saved_model_is_refused_on_the_keras_engine(imported, tmp_path):
    assert imported("k2-savedmodel-gap").returncode == 0
    store = Store(tmp_path / "store", tmp_path / "cache")
    heads = heads_of(store, lambda: open_engine("keras", 2))
    heads.load()
    assert "a SavedModel, which only the openvino engine runs" in heads.statuses["case"].failures[1]


@pytest.mark.parametrize("kind", ["MODEL.KERAS", "no-suffix", "model.zip", "unpacked"])
def test_a_model_is_recognised_by_its_content(kind, run_here, tmp_path):
    name = "k3-vgg16-flatten"
    spec = SPECS[name]
    path = tmp_path / kind
    if kind == "unpacked":
        shutil.unpack_archive(model_file(name), path, "zip")
    else:
        shutil.copyfile(model_file(name), path)
    (tmp_path / "labels.json").write_text(json.dumps(spec["labels"]))
    words = ("import", str(path), "--head", "case", "--labels", str(tmp_path / "labels.json"))
    ended = run_here(*words, *flags(spec), "--store-dir", str(tmp_path / "store"))
    assert ended.returncode == 0, ended.stderr
    check_served(Store(tmp_path / "store", tmp_path / "cache"), name)
