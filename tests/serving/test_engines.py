import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stored import load

from service.errors import VersionError
from service.serving.batcher import Trace
from service.serving.engines import choose_engine, has_tensorflow, open_engine
from service.serving.explain.evidence import evidence_of
from service.store.layout import MODEL, Store

ENGINES = ("openvino", "keras")
NETWORKS = {"openvino": "network.xml", "keras": "network.keras"}
HEADS = ("gap", "flatten")
IMAGES = 13
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def store(small_store, tmp_path_factory):
    """The small store, with compiled files for both engines."""
    from service.lab.models.recompile import recompile

    folder = tmp_path_factory.mktemp("engines")
    shutil.copytree(small_store.root, folder / "store")
    both = Store(folder / "store", folder / "cache")
    for head in HEADS:
        recompile(both, head, 1, "keras")
    return both


@pytest.fixture(scope="module")
def pixels():
    from keras_models import pixels

    return pixels(IMAGES, seed=7)


@pytest.fixture(scope="module")
def expected(store, pixels):
    """Probabilities by the whole saved models in Keras, with Keras' own preprocessing."""
    from keras_models import keras

    inputs = keras.applications.resnet50.preprocess_input(pixels.astype("float32"))
    whole = {head: keras.models.load_model(store.folder(head, 1) / MODEL) for head in HEADS}
    return {head: model.predict(inputs, verbose=0) for head, model in whole.items()}


@pytest.fixture(scope="module", params=ENGINES)
def heads(request, store):
    return load(store, open_engine(request.param, 2), max_batch_size=3)


def run(head, pixels):
    return head.network(head.backbone.network(pixels)).copy()


def test_the_pictures_tell_heads_and_images_apart(expected):
    for probabilities in expected.values():
        assert probabilities.std(axis=0).max() > 100 * TOLERANCE
    assert np.abs(expected["gap"] - expected["flatten"]).max() > 100 * TOLERANCE


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("name", HEADS)
def test_an_engine_agrees_with_the_whole_saved_model_in_keras(heads, name, batch, pixels, expected):
    head = heads.get(name)
    for start in range(0, IMAGES - batch + 1, batch):
        rows = slice(start, start + batch)
        np.testing.assert_allclose(run(head, pixels[rows]), expected[name][rows], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", HEADS)
def test_an_image_gets_the_same_answer_in_every_batch(heads, name, pixels):
    head = heads.get(name)
    alone = run(head, pixels[2:3])[0]
    for batch in (3, 8):
        np.testing.assert_allclose(run(head, pixels[:batch])[2], alone, rtol=0, atol=1e-6)


def test_a_batch_larger_than_any_before_is_answered(heads, pixels, expected):
    answer = run(heads.get("gap"), pixels)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected["gap"], rtol=0, atol=TOLERANCE)


def test_rows_that_were_picked_from_features_are_answered(heads, pixels, expected):
    """As the batcher does for a head that only some images of a batch asked for."""
    head = heads.get("flatten")
    features = head.backbone.network(pixels[:5])
    rows = [0, 3, 4]
    np.testing.assert_allclose(
        head.network(features[rows]), expected["flatten"][rows], rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("name", HEADS)
def test_an_engine_explains_what_it_answers(heads, name, pixels):
    head = heads.get(name)
    features = head.backbone.network(pixels[:3]).copy()
    probabilities = head.network(features).copy()
    logits = head.network.logits().copy()
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), probabilities, rtol=0, atol=1e-5)
    for row in range(3):
        trace = Trace(pixels[row], features[row], logits[row])
        evidence = evidence_of(head.network.layers, trace, head.card.output, 1)  # checks that it adds up
        assert evidence.logit == logits[row, 1]
        assert evidence.grid.shape == head.card.backbone.feature_shape[:2]


def garbage(path):
    path.write_bytes(b"\x00garbage" * 100)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite_the_middle(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle - 500 : middle + 500] = bytes(1000)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "harm"),
    # of weights that were overwritten in a .keras file only its sha256 tells
    [*itertools.product(ENGINES, (garbage, cut, Path.unlink)), ("openvino", overwrite_the_middle)],
)
def test_a_damaged_network_is_a_version_error(store, tmp_path, name, harm):
    digest = store.read_card("gap", 1).structure.digest
    folder = shutil.copytree(store.compiled(digest, name), tmp_path / "damaged")
    harm(folder / NETWORKS[name])
    with pytest.raises(VersionError, match=r"^(OpenVINO|Keras) cannot open it: \S"):
        open_engine(name, 1).open(folder)


def test_the_engine_wanted_is_the_engine_chosen():
    assert [choose_engine(name) for name in ENGINES] == list(ENGINES)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_without_a_gpu_auto_is_openvino():
    assert has_tensorflow()
    assert choose_engine("auto") == "openvino"


def test_without_tensorflow_auto_is_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # Python's own way to say: not to be had
    assert not has_tensorflow()
    assert choose_engine("auto") == "openvino"


def test_serving_with_openvino_never_imports_tensorflow(store):
    code = f"""
import asyncio, sys
from pathlib import Path
from service.serving.batcher import Batcher
from service.serving.classifier import Classifier
from service.serving.capacity import Capacity
from service.serving.engine_lock import EngineLock
from service.serving.engines import choose_engine, open_engine
from service.serving.heads import Heads
from service.serving.loading import Loader
from service.serving.rebuild import compile_in_child
from service.store.layout import Store
import service.app

store = Store(Path({str(store.root)!r}), Path({str(store.cache)!r}))
engine = open_engine(choose_engine("openvino"), 1)
heads = Heads(store, lambda: Loader(store, engine, 2, compile_in_child, EngineLock()))
heads.load()
classifier = Classifier(heads, Batcher(Capacity()), 1, 10**6)
image = heads.get("gap").card.golden.image
both = [heads.get("gap"), heads.get("flatten")]
answer = asyncio.run(classifier.classify([image], both, classifier.capacity.permit(20))).images[0]
assert set(answer) == {{"gap", "flatten"}}
classifier.close()
print([name for name in ("tensorflow", "keras", "service.lab") if name in sys.modules])
"""
    child = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert (child.returncode, child.stdout) == (0, "[]\n"), child.stderr
