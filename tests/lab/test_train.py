"""`resnet-heads train` on a real ResNet50 at 64x64, against Keras on what it has published."""

import os
import signal
import subprocess
import sys

import httpx
import numpy as np
import pytest
from process import READY_S, run, serving
from waiting import wait_until

from service.errors import CommandError
from service.lab.backbones import sources
from service.lab.data import photographs
from service.lab.training.head_spec import parse_head
from service.lab.training.scoring import moved_in_turn
from service.lab.training.train import TrainOptions, train
from service.serving.pixels import decode
from service.store.layout import Store

pytestmark = pytest.mark.slow

CLASSES = ("red-bottom-right", "red-top-left", "yellow-top-left")
SIDE = 64
WISHES = TrainOptions(
    heads=(parse_head("gap"), parse_head("flatten,hidden=8")),
    weights="random",
    seeds=2,
    size=SIDE,
    sizes=(4,),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of the demo's pictures, 16 of each, as PNG files of several sizes."""
    from service.lab.backbones.demo import picture

    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for label in CLASSES:
        (root / label).mkdir()
        for number in range(16):
            picture(label, rng, side=SIDE + 8 * (number % 3)).save(root / label / f"{number}.png")
    (root / CLASSES[0] / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return root


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A store with both heads, and their cards by name."""
    root = tmp_path_factory.mktemp("trained")
    store = Store(root / "store", root / "cache")
    return store, {card.head: card for card in train(store, folder, WISHES)}


@pytest.fixture(scope="module")
def test_split(folder):
    data = photographs.read_photographs(folder)
    return [one for one in data.splits["test"] if one.path.name != "broken.png"]


def keras_probabilities(store, card, files, shift=0):
    """By the published model file, whole, in Keras."""
    import keras

    pixels = np.stack([decode.decode(one.path.read_bytes(), card.input, 10**6) for one in files])
    model = keras.models.load_model(store.folder(card.head, card.version) / "model.keras")
    values = keras.applications.resnet50.preprocess_input(moved_in_turn(pixels, shift).astype("float32"))
    return model.predict(values, verbose=0)


NAMES = ("gap", "flatten-hidden-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_record_is_what_keras_makes_of_the_published_model(trained, test_split, name):
    store, cards = trained
    training = cards[name].training
    experiment = training.experiment
    told = keras_probabilities(store, cards[name], test_split)
    truth = np.array([one.label for one in test_split])
    assert experiment.truth == tuple(truth)
    assert experiment.predicted == tuple(told.argmax(axis=1))
    assert training.accuracy == pytest.approx(np.mean(told.argmax(axis=1) == truth))
    log_loss = -np.log(told[np.arange(len(truth)), truth]).mean()
    assert experiment.log_loss == pytest.approx(log_loss, rel=1e-3, abs=1e-4)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (truth, told.argmax(axis=1)), 1)
    assert experiment.confusion == tuple(map(tuple, confusion.tolist()))
    assert training.images_test == len(truth)
    assert training.images_train + training.images_validation + training.images_test == 48


@pytest.mark.parametrize("name", NAMES)
def test_shift_robustness_is_that_of_moved_pictures(trained, test_split, name):
    store, cards = trained
    experiment = cards[name].training.experiment
    truth, predicted = np.array(experiment.truth), np.array(experiment.predicted)
    assert [shift.pixels for shift in experiment.shifts] == [8, 16, 32]
    for shift in experiment.shifts:
        told = keras_probabilities(store, cards[name], test_split, shift.pixels).argmax(axis=1)
        assert shift.accuracy == pytest.approx(np.mean(told == truth))
        assert shift.agreement == pytest.approx(np.mean(told == predicted))


def test_the_record_says_how_it_was_trained(trained):
    _, cards = trained
    for card in cards.values():
        experiment = card.training.experiment
        assert card.origin == "trained"
        assert card.labels == CLASSES
        assert [run.seed for run in experiment.runs] == [0, 1]
        assert experiment.accuracy.mean == pytest.approx(
            np.mean([run.accuracy for run in experiment.runs])
        )
        assert card.training.seed == min(experiment.runs, key=lambda run: run.validation_loss).seed
        assert [point.images_per_class for point in experiment.sizes] == [4]
        assert experiment.backbone == "random"
        assert experiment.peak_mb > 100
    assert len({card.training.experiment.data for card in cards.values()}) == 1


def test_the_heads_share_their_backbone_and_answer_over_http_as_recorded(trained, test_split):
    store, cards = trained
    with serving(store) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for name in NAMES:
            told = keras_probabilities(store, cards[name], test_split)
            other = NAMES[1 - NAMES.index(name)]
            assert client.get(f"/heads/{name}").json()["serving"]["shares_with"] == [other]
            recorded = client.get(f"/heads/{name}").json()["serving"]["training"]
            assert recorded["accuracy"] == cards[name].training.accuracy
            for row, one in enumerate(test_split):
                answer = client.post(f"/predict?head={name}&top_k=3", content=one.path.read_bytes())
                ranked = answer.json()["results"][0]["predictions"]
                assert ranked[0]["index"] == cards[name].training.experiment.predicted[row]
                for prediction in ranked:
                    assert prediction["probability"] == pytest.approx(
                        told[row, prediction["index"]], abs=1e-4
                    )


def command(store, folder, *more):
    return [
        *("train", str(folder), "--head", "gap", "--weights", "random", "--seeds", "1"),
        *("--size", str(SIDE), "--store-dir", str(store.root), *more),
    ]


def test_a_second_run_extracts_nothing_and_gives_the_same(trained, folder, tmp_path):
    store, cards = trained
    again = Store(tmp_path / "store", store.cache)
    done = run(*command(again, folder), RESNET_HEADS_CACHE_DIR=str(store.cache))
    assert done.returncode == 0, done.stderr
    assert "Extracting features of 1 pictures" in done.stderr, "the broken one is tried again"
    assert "broken.png: the image is broken or truncated." in done.stderr
    experiment = again.read_card("gap", 1).training.experiment
    assert experiment.runs[0] == cards["gap"].training.experiment.runs[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_run_leaves_no_head_and_the_next_one_goes_on(folder, tmp_path, number, code):
    store = Store(tmp_path / "store", tmp_path / "cache")
    arguments = [sys.executable, "-m", "service", *command(store, folder)]
    environment = os.environ | {"RESNET_HEADS_CACHE_DIR": str(store.cache)}
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            features = store.cache / "features"
            wait_until(lambda: any(features.rglob("*.f16")) or process.poll() is not None, READY_S)
            assert process.poll() is None, process.stderr.read()
            process.send_signal(number)
            assert process.wait(60) == code
        finally:
            process.kill()
    assert store.heads() == []
    if number == signal.SIGINT:
        return  # what goes on after the harder end goes on after the softer
    kept = {path: path.stat().st_ino for path in (store.cache / "features").rglob("*.f16")}
    done = run(*command(store, folder), RESNET_HEADS_CACHE_DIR=str(store.cache))
    assert done.returncode == 0, done.stderr
    assert store.heads() == ["gap"]
    assert kept == {path: path.stat().st_ino for path in kept}, "computed again"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--head", "gab"], "'gab' is no pooling"),
        (["--head", "gap"], "Two heads are named gap;"),
        (["--head", "gap-tuned=gmp", "--fine-tune", "1"], "Two heads are named gap-tuned;"),
        (["--head", f"{'g' * 58}=gmp", "--fine-tune", "1"], "-tuned is too long"),
        (["--head", "average:3"], "a window of 3 is larger than the 2x2 map"),
        (["--weights", "nothing.h5"], "neither imagenet, random, a head in"),
        (["--cache-gb", "0.000001"], "--cache-gb allows"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_no_head(folder, tmp_path, more, reason):
    store = Store(tmp_path / "store", tmp_path / "cache")
    done = run(*command(store, folder, *more), RESNET_HEADS_CACHE_DIR=str(store.cache))
    assert done.returncode == 2, done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert store.heads() == []
    assert not list(store.cache.rglob("*.f16")), "it was found out after the work"


def test_a_store_that_takes_nothing_is_told_before_the_work(folder, tmp_path):
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "store", tmp_path / "cache")
    done = run(*command(store, folder), RESNET_HEADS_CACHE_DIR=str(store.cache))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"resnet-heads: {store.root}: Not a directory."
    assert not store.cache.exists()


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A store with head `own`, its card, and two files that hold its backbone."""
    import keras
    from keras_models import LABELS, backbone, classifier, save

    from service.lab.models.importing import ImportOptions as ImportWishes
    from service.lab.models.importing import import_model

    root = tmp_path_factory.mktemp("imported")
    store = Store(root / "store", root / "cache")
    file = save(classifier(keras.layers.GlobalAveragePooling2D()), root, "own")
    (root / "labels.txt").write_text("\n".join(LABELS))
    wishes = ImportWishes(head="own", labels=root / "labels.txt", resize="center_crop", decode="scaled")
    card = import_model(store, file, wishes)
    backbone().save_weights(root / "notop.weights.h5")
    return store, card, {"head": "own", "model": file, "weights": root / "notop.weights.h5"}


@pytest.mark.parametrize("kind", ["head", "model", "weights"])
def test_a_backbone_is_the_same_from_the_store_its_file_and_a_weights_file(imported, kind):
    store, card, weights = imported
    known = sources.source(str(weights[kind]), store, card.input, []).known
    assert known.digest == card.backbone.digest
    assert known.feature_shape == card.backbone.feature_shape


def test_a_head_that_is_trained_on_anothers_backbone_shares_it_and_need_not_keep_features(
    imported, folder
):
    store, own, _ = imported
    wishes = TrainOptions(heads=(parse_head("gap"),), weights="own", seeds=1, use_cache=False)
    [card] = train(store, folder, wishes)
    assert (card.backbone.digest, card.input) == (own.backbone.digest, own.input)
    assert not list(store.cache.rglob("*.f16"))


def test_pictures_move_right_down_left_and_up_in_turn():
    picture = np.arange(5 * 5 * 3, dtype=np.uint8).reshape(1, 5, 5, 3)
    four = moved_in_turn(np.repeat(picture, 4, axis=0), 2)
    padded = np.pad(picture[0], ((2, 2), (2, 2), (0, 0)), mode="edge")
    np.testing.assert_array_equal(four[0], padded[2:7, 0:5])
    np.testing.assert_array_equal(four[1], padded[0:5, 2:7])
    np.testing.assert_array_equal(four[2], padded[2:7, 4:9])
    np.testing.assert_array_equal(four[3], padded[4:9, 2:7])
    np.testing.assert_array_equal(moved_in_turn(picture, 2, first=2), four[2:3])


@pytest.fixture(scope="module")
def tuned(imported, folder):
    """`gap` on the imported backbone, and `gap-tuned` with its last stage trained along."""
    store, _, _ = imported
    wishes = TrainOptions(heads=(parse_head("gap"),), weights="own", seeds=1, size=SIDE, fine_tune=1)
    return store, train(store, folder, wishes)


def test_a_tuned_head_has_a_backbone_of_its_own_whose_last_stage_alone_has_learned(tuned):
    import keras

    store, (frozen, own) = tuned
    assert [frozen.head, own.head] == ["gap", "gap-tuned"]
    assert own.backbone.digest != frozen.backbone.digest
    assert own.training.experiment.fine_tuned_stages == 1
    assert len(own.training.experiment.learning_curve) == 5
    before, after = (
        {
            "/".join(weight.path.split("/")[-2:]): weight.numpy()
            for weight in keras.models.load_model(
                store.folder(card.head, card.version) / "model.keras"
            ).weights
            if "conv" in weight.path.split("/")[-2]
        }
        for card in (frozen, own)
    )
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("conv5_") and "_bn/" not in name}


def test_a_tuned_heads_record_is_what_keras_makes_of_it(tuned, test_split):
    import keras

    store, (_, card) = tuned
    pixels = np.stack([decode.decode(one.path.read_bytes(), card.input, 10**6) for one in test_split])
    model = keras.models.load_model(store.folder(card.head, card.version) / "model.keras")
    told = model.predict(pixels, verbose=0)
    experiment = card.training.experiment
    assert experiment.predicted == tuple(told.argmax(axis=1))
    truth = np.array([one.label for one in test_split])
    log_loss = -np.log(told[np.arange(len(truth)), truth]).mean()
    assert experiment.log_loss == pytest.approx(log_loss, rel=1e-3, abs=1e-4)


def test_a_backbone_without_those_stages_cannot_be_tuned(folder, tmp_path):
    from keras_models import small_backbone

    store = Store(tmp_path / "store", tmp_path / "cache")
    small_backbone().save(tmp_path / "small.keras")
    wishes = TrainOptions(
        heads=(parse_head("gap"),),
        weights=str(tmp_path / "small.keras"),
        seeds=1,
        size=SIDE,
        fine_tune=1,
    )
    with pytest.raises(CommandError, match="no stages named as those of Keras' ResNet50"):
        train(store, folder, wishes)
    assert store.heads() == []
    assert not list(store.cache.rglob("*.f16")), "it was found out after the work"
