"""`quantize` on a small real ResNet50: what it publishes, what it refuses, and what it leaves alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import nncf.telemetry.wrapper
import numpy as np
import openvino as ov
import pytest
from children import start
from fakes import FakeEngine, card, picture, publish, quantization
from PIL import Image
from process import run, serving
from stored import empty, failures, load, load_real
from waiting import wait_until

from service.benchmark.children import Children
from service.benchmark.orders import Loaded, Order
from service.errors import CommandError
from service.lab.data.photographs import Photograph, Photographs
from service.lab.models.recompile import recompile
from service.lab.precision.choice import Choice
from service.lab.precision.quantize import choose_for_calibration, quantize
from service.serving.engines import open_engine
from service.store.card import Backbone
from service.store.layout import CARD, NotForEngine, Store, sha256_of

pytestmark = pytest.mark.slow

HEADS = ("gap", "flatten")
TRAIN, TEST, MORE = 60, 40, 150  # pictures
ALONE = "it is an int8 graph, which only the openvino engine runs."


def networks(store, head, engine=None):
    """The backbone and the head of version 1."""
    engine = engine or open_engine("openvino", 2)
    one = store.read_card(head, 1)
    return engine.open(store.backbone_of(one, "openvino")), engine.open(store.head_of(one, "openvino"))


def answers(store, head, pixels):
    """Probabilities (n, 5), a picture at a time."""
    backbone, network = networks(store, head)
    return np.concatenate([network(backbone(one[np.newaxis])).copy() for one in pixels])


def write(folder: Path, pixels, classes):
    """Pictures by class and split; a PNG of 64x64 reaches the network as it is."""
    from keras_models import LABELS

    for index, (values, label) in enumerate(zip(pixels, classes, strict=True)):
        path = folder / LABELS[label] / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)


def pictures(folder: Path):
    """Pixels and classes of the pictures below a folder that can be read."""
    from keras_models import LABELS

    files = sorted(folder.rglob("[0-9]*.png"))
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    return pixels, np.array([LABELS.index(file.parent.name) for file in files])


@pytest.fixture(scope="module")
def images(small_store, tmp_path_factory) -> Path:
    """Pictures in the classes that `flatten` puts them in: it is right about all of them."""
    from keras_models import pixels

    folder, some = tmp_path_factory.mktemp("images"), pixels(TRAIN + TEST, seed=5)
    classes = answers(small_store, "flatten", some).argmax(axis=1)
    write(folder / "train", some[:TRAIN], classes[:TRAIN])
    write(folder / "test", some[TRAIN:], classes[TRAIN:])
    (folder / "test" / "apple" / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def done(small_store, images, tmp_path_factory):
    """What the command said, and the store it worked on."""
    folder = tmp_path_factory.mktemp("quantized")
    shutil.copytree(small_store.root, folder / "store")
    store = Store(folder / "store", folder / "cache")
    arguments = ("--images", str(images), "--max-drop", "20", "--store-dir", str(store.root))
    return store, run("quantize", *HEADS, *arguments)


@pytest.fixture(scope="module")
def store(done) -> Store:
    return done[0]


def test_it_says_what_it_published_and_which_picture_it_could_not_read(done, images):
    _, process = done
    assert process.returncode == 0, process.stderr
    assert [line for line in process.stdout.splitlines() if " version " in line] == [
        "gap-int8 version 1: 5 classes, head of 0.04 MB",
        "flatten-int8 version 1: 5 classes, head of 0.16 MB",
    ]
    assert process.stdout.count(f"of {TEST} held-out pictures") == 2
    broken = f"{images}/test/apple/broken.png is not used: not a JPEG"
    assert [line for line in process.stderr.splitlines() if line.startswith(broken)]
    for noise in ("nncf", "WARNING", "I0000", "━", "Traceback"):
        assert noise not in process.stdout + process.stderr


def test_the_int8_heads_share_with_each_other_and_not_with_the_others(store):
    heads = load_real(store)
    assert failures(heads) == {}
    one, other, before = (heads.get(name).backbone for name in ("gap-int8", "flatten-int8", "gap"))
    assert one is other
    assert one is not before


def test_the_float32_heads_are_what_they_were(store, small_store, snapshot):
    for head in HEADS:
        assert snapshot(store.root / head) == snapshot(small_store.root / head)
    assert snapshot(store.root / ".compiled") == snapshot(small_store.root / ".compiled")


@pytest.mark.parametrize("head", HEADS)
def test_the_card_says_what_numpy_finds(store, images, head):
    pixels, truth = pictures(images / "test")
    before, after = (answers(store, name, pixels).argmax(axis=1) for name in (head, f"{head}-int8"))
    told = store.read_card(f"{head}-int8", 1).quantization
    assert told.accuracy_before == np.mean(before == truth)
    assert told.accuracy_after == np.mean(after == truth)
    assert told.agreement == np.mean(before == after)
    assert told.images_test == len(truth) == TEST
    assert head == "gap" or told.accuracy_before == 1
    assert told.agreement > 0.8
    assert (told.source_head, told.source_version, told.max_drop) == (head, 1, 20)


def test_int8_probabilities_are_near_those_of_float32(store, images):
    pixels, _ = pictures(images / "test")
    difference = np.abs(answers(store, "gap-int8", pixels) - answers(store, "gap", pixels))
    assert 1e-4 < difference.mean() < 0.01


@pytest.mark.parametrize("head", HEADS)
def test_the_layers_of_the_head_are_the_same_and_the_backbone_is_a_quarter(store, head):
    before, after = store.read_card(head, 1), store.read_card(f"{head}-int8", 1)
    assert after.structure == before.structure
    assert after.source == before.source
    assert after.backbone.parameters == before.backbone.parameters
    weights = store.folder(after.head, 1) / "network.bin"
    assert after.quantization.weight_bytes == pytest.approx(weights.stat().st_size, rel=0.001)
    assert 4 * after.backbone.parameters / after.quantization.weight_bytes == pytest.approx(4, abs=0.05)
    assert after.quantization.files == {
        name: sha256_of(weights.with_name(name)) for name in ("network.xml", "network.bin")
    }


def test_weights_have_seven_bits_so_that_no_cpu_overflows(store):
    graph = ov.Core().read_model(store.folder("gap-int8", 1) / "network.xml")
    weights = [
        node.data
        for node in graph.get_ops()
        if node.get_type_name() == "Constant" and node.get_element_type().to_string() == "i8"
    ]
    assert len(weights) == 53, "the convolutions of a ResNet50"
    assert max(int(np.abs(values.astype(int)).max()) for values in weights) <= 64


def test_a_damaged_bit_keeps_out_its_head_and_no_other(store, copied):
    damaged = copied(store)
    with (damaged.folder("gap-int8", 1) / "network.bin").open("r+b") as file:
        file.seek(10**7)
        bit = file.read(1)[0] ^ 1
        file.seek(10**7)
        file.write(bytes([bit]))
    heads = load_real(damaged)
    assert failures(heads) == {
        "gap-int8": {1: "network.bin is damaged: its sha256 is not the recorded one."}
    }
    assert set(heads.serving()) == {"gap", "flatten", "flatten-int8"}


def test_a_wrong_network_fails_the_golden_check_for_all_its_tolerance(store, copied):
    """Someone replaced a file and its sha256."""
    damaged = copied(store)
    folder = damaged.folder("gap-int8", 1)
    with (folder / "network.bin").open("r+b") as file:
        file.seek(10**7)
        file.write(bytes(10**6))
    content = json.loads((folder / CARD).read_text())
    content["quantization"]["files"]["network.bin"] = sha256_of(folder / "network.bin")
    (folder / CARD).write_text(json.dumps(content))
    (damaged.root / "flatten-int8").rename(damaged.root / ".aside")
    told = failures(load_real(damaged))["gap-int8"][1]
    assert told.startswith("golden check: probabilities differ from the card's by ")
    assert told.endswith(", more than 0.05.")


def test_the_keras_engine_refuses_it_and_says_which_does_not(store):
    class Keras(FakeEngine):
        name = "keras"

    told = failures(load(store, Keras()))
    assert told["gap-int8"] == told["flatten-int8"] == {1: ALONE}
    assert told["gap"] == {1: "run: compile gap 1 keras"}


def test_compile_derives_its_head_again_and_nothing_else(store, copied):
    copy = copied(store)
    one = copy.read_card("gap-int8", 1)
    derived = {path.name: path for path in (copy.root / ".compiled").iterdir()}
    for digest in (store.read_card("gap", 1).backbone.digest, one.structure.digest):
        derived[digest].rename(copy.root / f".aside-{digest}")
    recompile(copy, "gap-int8", 1, "openvino")
    missing = {*derived} - {path.name for path in (copy.root / ".compiled").iterdir()}
    assert missing == {store.read_card("gap", 1).backbone.digest}
    with pytest.raises(NotForEngine, match=ALONE):
        recompile(copy, "gap-int8", 1, "keras")


def test_a_benchmark_runs_it_in_a_process_of_its_own(store):
    with Children() as processes:
        end = time.monotonic() + 60
        process = start(processes, store, "gap-int8")
        assert process.ask(Order(do="load"), Loaded, end).load_ms > 0


def test_it_answers_over_http_and_is_described(store, images):
    pixels, _ = pictures(images / "test")
    file = next(path for path in sorted((images / "test").rglob("[0-9]*.png")))
    with serving(store) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        told = client.post("/predict?head=gap-int8", content=file.read_bytes()).json()
        described = client.get("/heads/gap-int8").json()["serving"]
        refused = client.post("/benchmark", json={"heads": ["gap-int8"], "engines": ["keras"]})
    by_index = {one["index"]: one["probability"] for one in told["results"][0]["predictions"]}
    np.testing.assert_allclose(
        [by_index[index] for index in range(5)], answers(store, "gap-int8", pixels[:1])[0], atol=1e-6
    )
    assert described["shares_with"] == ["flatten-int8"]
    assert described["quantization"]["images_test"] == TEST
    assert refused.status_code == 422
    assert ALONE in refused.json()["error"]


@pytest.mark.parametrize(
    "choice",
    [Choice("bf16"), Choice("f32", "int8"), Choice("bf16", "int8"), Choice("int8", "int8")],
    ids=str,
)
def test_what_a_choice_costs_is_what_numpy_finds(small_store, copied, images, choice):
    copy, (pixels, truth) = copied(small_store), pictures(images / "test")
    engine = open_engine("openvino", 2)
    words = ["--to", choice.precision] if choice.precision != "f32" else []
    words += ["--head-weights", "int8"] if choice.head_weights == "int8" else []
    words += ["--images", str(images), "--max-drop", "20", "--store-dir", str(copy.root)]
    done = run("quantize", *HEADS, *words)
    if engine.computes_in(choice.precision) != choice.precision:
        assert "This processor has no bf16" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    for head in HEADS:
        one = copy.read_card(choice.name_of(head), 1)
        backbone = engine.open(copy.backbone_of(one, "openvino"), choice.precision)
        network = engine.open_head(copy.head_of(one, "openvino"))
        before = answers(copy, head, pixels)
        after = np.concatenate([network(backbone(picture[np.newaxis])).copy() for picture in pixels])
        told = one.quantization
        assert told.accuracy_before == np.mean(before.argmax(axis=1) == truth)
        assert told.accuracy_after == np.mean(after.argmax(axis=1) == truth)
        assert told.agreement == np.mean(before.argmax(axis=1) == after.argmax(axis=1))
        assert told.largest_change == pytest.approx(np.abs(after - before).max(), abs=1e-5)
        assert 1e-5 < told.largest_change < 0.2
        assert failures(load_real(copy)) == {}


@pytest.fixture(scope="module")
def unlucky(store, images, tmp_path_factory):
    """The same pictures for training, and to test on those that int8 gets wrong."""
    from keras_models import pixels

    folder, some = tmp_path_factory.mktemp("unlucky"), pixels(MORE, seed=6)
    (folder / "train").symlink_to(images / "train")
    before, after = (answers(store, name, some).argmax(axis=1) for name in ("flatten", "flatten-int8"))
    wrong = np.flatnonzero(before != after)
    right = [np.flatnonzero((before == label) & (after == label))[0] for label in range(5)]
    assert len(wrong) > 0
    chosen = np.array([*wrong, *right])
    write(folder / "test", some[chosen], before[chosen])
    return folder, len(wrong), len(chosen)


def test_a_head_that_loses_too_much_is_refused_and_the_store_untouched(
    small_store, copied, snapshot, unlucky
):
    folder, wrong, count = unlucky
    copy = copied(small_store)
    before = snapshot(copy.root)
    allowed = 100 * wrong / count - 0.1
    done = run(
        *("quantize", *HEADS[::-1], "--images", str(folder)),
        *("--max-drop", str(allowed), "--store-dir", str(copy.root)),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        f"resnet-heads: The accuracy of flatten falls by {100 * wrong / count:.1f} points, from {count} "
        f"to {count - wrong} of {count} held-out pictures; --max-drop allows {allowed:g}. "
        "Nothing is published."
    )
    assert snapshot(copy.root) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_run_that_is_stopped_leaves_the_store_untouched(
    small_store, copied, snapshot, images, tmp_path, number, code
):
    copy = copied(small_store)
    before = snapshot(copy.root)
    said = tmp_path / "said"
    command = [sys.executable, "-m", "service", "quantize", "gap", "--images", str(images)]
    with said.open("w") as stderr:
        command += ["--store-dir", str(copy.root)]
        process = subprocess.Popen(command, stderr=stderr)
    try:
        wait_until(lambda: "Calibrating" in said.read_text() or process.poll() is not None, 60)
        os.kill(process.pid, number)
        assert process.wait(30) == code
    finally:
        process.kill()
    assert snapshot(copy.root) == before
    assert "Traceback" not in said.read_text()


def published(folder: Path, *heads: str, **changes) -> tuple[Store, list]:
    """Fake heads in a store."""
    made = empty(folder)
    return made, [publish(made, head, **changes) for head in heads]


def refusal(store, cards, folder, max_drop=0.5):
    with pytest.raises(CommandError) as refused:
        quantize(store, cards, Choice("int8"), folder, max_drop)
    return str(refused.value)


def test_heads_on_two_backbones_are_refused(tmp_path):
    store, cards = published(tmp_path, "gap", "flatten")
    other = card("other", backbone=Backbone(digest="c" * 64, parameters=100, feature_shape=(1, 1, 3)))
    told = refusal(store, [*cards, other], tmp_path)
    assert told == "gap and other do not share a backbone; quantize one after the other."


def test_heads_with_another_input_are_refused(tmp_path):
    store, cards = published(tmp_path, "gap")
    other = card("other", input=cards[0].input.model_copy(update={"resize": "load_img"}))
    assert "gap and other do not share" in refusal(store, [*cards, other], tmp_path)


def test_an_int8_head_is_refused(tmp_path):
    store, cards = published(tmp_path, "gap-int8", quantization=quantization(), precision="int8")
    assert refusal(store, cards, tmp_path) == ("quantize made gap-int8 of gap; name that one.")


def test_a_name_that_would_be_too_long_is_refused(tmp_path):
    store, cards = published(tmp_path, "g" * 60)
    assert "too long" in refusal(store, cards, tmp_path)


@pytest.mark.parametrize("max_drop", [-0.1, 101, float("nan")])
def test_a_fall_that_cannot_be_is_refused(tmp_path, max_drop):
    store, cards = published(tmp_path, "gap")
    assert "not between 0 and 100 points" in refusal(store, cards, tmp_path, max_drop)


def test_folders_that_are_no_labels_are_named(tmp_path):
    store, cards = published(tmp_path, "gap")
    for label in ("red", "pink", "mauve"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for shade in range(8):
            file = tmp_path / "images" / label / f"{shade}.png"
            file.write_bytes(picture((shade, 10 * len(label), ord(label[0]))))
    assert refusal(store, cards, tmp_path / "images") == (
        "gap has no label 'mauve', 'pink'; the folders of --images must be named as its labels."
    )


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    store, cards = published(tmp_path, "gap")
    assert "There is no folder" in refusal(store, cards, tmp_path / "nowhere")


def test_calibration_takes_300_pictures_at_most_and_all_classes_alike():
    def some(count, label):
        return [Photograph(Path(f"{label}/{i}"), f"{i * 7919 % 10007:064}", label) for i in range(count)]

    ones = (*some(20, 0), *some(500, 1), *some(500, 2))
    chosen = choose_for_calibration(Photographs(("a", "b", "c"), {"train": ones}, ()))
    assert np.bincount([one.label for one in chosen]).tolist() == [20, 140, 140]
    assert choose_for_calibration(Photographs(("a", "b", "c"), {"train": ones[::-1]}, ())) == chosen


def test_nncf_reports_nothing_to_anybody():
    assert sys.modules["openvino_telemetry"] is None
    assert not hasattr(nncf.telemetry.wrapper, "Telemetry"), "it would have it from that package"
