"""`import --check` and `check`: which pixels a model was trained on is found out by photographs."""

import itertools
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_models import SIDE, processed, save, small_backbone
from PIL import Image, ImageOps

from service.errors import CommandError
from service.lab.checking.measuring import measure
from service.lab.checking.pictures import choose
from service.lab.models.importing import ImportOptions, import_model
from service.lab.models.opening import open_source
from service.store.card import PREPROCESSING, Input, Preprocessing
from service.store.layout import Store

LABELS = ("apple", "banana", "cherry", "damson", "elder")
EACH = 16
NEAREST, BILINEAR = Image.Resampling.NEAREST, Image.Resampling.BILINEAR


def grainy(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A picture that differs from others in its grain only, which each resize changes otherwise."""
    coarse = Image.fromarray(np.random.default_rng(9).integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = rng.normal(0, 60, (height, width, 3))
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def write(folder: Path, count: int = EACH, seed: int = 0, labels=LABELS) -> Path:
    """`count` pictures in a folder of each class. Nothing tells the classes apart but the pictures."""
    rng = np.random.default_rng(seed)
    for label, number in itertools.product(labels, range(count)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        grainy(rng, 150, 110).save(folder / label / f"{number:02}.png")
    return folder


def files(folder: Path, labels=LABELS) -> tuple[list[Path], np.ndarray]:
    """The pictures below a folder of classes, and their classes."""
    found = [
        (path, at) for at, label in enumerate(labels) for path in sorted((folder / label).iterdir())
    ]
    return [path for path, _ in found], np.array([at for _, at in found])


def loaded(paths: list[Path], resize: str) -> np.ndarray:
    """Float32 RGB pixels (n, 64, 64, 3) as Keras' or Pillow's own functions load them."""
    return np.stack([LOADERS[resize](path) for path in paths]).astype("float32")


def by_dataset(path: Path) -> np.ndarray:
    pixels = keras.utils.img_to_array(keras.utils.load_img(path))
    return np.rint(keras.ops.image.resize(pixels, (SIDE, SIDE), interpolation="bilinear"))


def by_crop(path: Path) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    short = round(SIDE * 256 / 224)
    scale = short / min(image.size)
    image = image.resize([int(side * scale) for side in image.size], BILINEAR)
    left, top = ((side - SIDE) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))


LOADERS: dict[str, Callable[[Path], np.ndarray]] = {
    "load_img": lambda path: keras.utils.img_to_array(
        keras.utils.load_img(path, target_size=(SIDE, SIDE))
    ),
    "image_dataset": by_dataset,
    "bilinear": lambda path: np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE), BILINEAR)),
    "center_crop": by_crop,
}


def taken(values: np.ndarray, how: str) -> np.ndarray:
    """What a training script of that kind makes of RGB pixels; `bgr-unit`: cv2.imread, / 255."""
    return processed(values[..., ::-1] if how.startswith("bgr-") else values, how.removeprefix("bgr-"))


def fitted(values: np.ndarray, classes: np.ndarray, mode: str, units: int = len(LABELS)) -> keras.Model:
    """A Flatten head that is right about all these values, by least squares, and hardly about others.

    Its biases are large, so that twice the values are wrong as well.
    """
    base = small_backbone(mode=mode)
    features = base.predict(values, verbose=0).reshape(len(values), -1)
    bias = np.linspace(-40, 40, units)
    kernel = np.linalg.lstsq(features, 12 * np.eye(units)[classes] - bias, rcond=None)[0]
    dense = keras.layers.Dense(units, activation="softmax")
    model = keras.Model(base.inputs[0], dense(keras.layers.Flatten()(base.output)))
    dense.set_weights([kernel, bias])
    return model


def bgr(name: str) -> Preprocessing:
    """The same for who reads pictures with OpenCV."""
    return PREPROCESSING[name].model_copy(update={"order": "bgr"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(tmp_path / "store", tmp_path / "cache")
    made.root.mkdir()
    return made


WAYS = [
    ("caffe", "image_dataset"),
    ("tf", "load_img"),
    ("torch", "bilinear"),
    ("unit", "center_crop"),
    ("none", "load_img"),
    ("bgr-tf", "load_img"),
    ("bgr-unit", "image_dataset"),
    ("bgr-none", "center_crop"),
]


@pytest.mark.parametrize(("how", "resize"), WAYS)
def test_what_the_training_did_is_found(folder, store, tmp_path, how, resize):
    paths, classes = files(folder)
    model = fitted(taken(loaded(paths, resize), how), classes, how.removeprefix("bgr-"))
    card = import_model(store, save(model, tmp_path), ImportOptions("gap", check=folder))
    wanted = bgr(how.removeprefix("bgr-")) if how.startswith("bgr-") else PREPROCESSING[how]
    assert (card.input.preprocessing, card.input.resize) == (wanted, resize)
    assert any(note.startswith("--check on") for note in card.notes)
    assert card.labels == LABELS
    assert any("took the folders of --check" in note for note in card.notes)


def test_the_accuracy_told_is_that_of_keras_on_its_own_dataset(folder, store, tmp_path):
    paths, classes = files(folder)
    classes[::10] = (classes[::10] + 1) % len(LABELS)  # The model is wrong about these.
    model = fitted(taken(loaded(paths, "image_dataset"), "unit"), classes, "unit")
    card = import_model(store, save(model, tmp_path), ImportOptions("gap", check=folder))

    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIDE, SIDE), batch_size=None, shuffle=False, verbose=False
    )
    values, truth = (np.stack(each) for each in zip(*dataset.as_numpy_iterator(), strict=True))
    accuracy = np.mean(model.predict(values.round() / 255, verbose=0).argmax(axis=1) == truth)
    assert 0.85 < accuracy < 0.95
    assert card.labels == tuple(dataset.class_names)
    told = [note for note in card.notes if note.startswith("--check on 80 pictures: preprocessing unit")]
    assert f"better than the assumed caffe: {100 * accuracy:.1f} % right" in told[0]


def test_labels_are_in_the_order_of_keras_own_dataset(store, tmp_path):
    names = ("Zebra", "apple", "10", "9", "élan", "a b")
    folder = write(tmp_path / "photos", 2, labels=names)
    order = keras.utils.image_dataset_from_directory(folder, verbose=False).class_names
    model = fitted(loaded(files(folder, order)[0], "load_img"), np.repeat(np.arange(6), 2), "none", 6)
    card = import_model(store, save(model, tmp_path), ImportOptions("gap", check=folder))
    assert card.labels == tuple(order) != names


def halves(folder: Path) -> Path:
    """Pictures of which the left or the right half is the brighter one."""
    rng = np.random.default_rng(3)
    for label, number in itertools.product(("left", "right"), range(24)):
        pixels = rng.integers(0, 60, (110, 150, 3), dtype=np.uint8)
        pixels[:, slice(75) if label == "left" else slice(75, None)] += 150
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def test_where_every_input_is_right_nothing_stands_out(store, tmp_path):
    sums, dense = keras.layers.Conv2D(1, 8, strides=8), keras.layers.Dense(2, activation="softmax")
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), sums, keras.layers.Flatten(), dense])
    sums.set_weights([np.full((8, 8, 3, 1), 1 / 192), np.zeros(1)])
    left = np.tile(np.repeat([1, -1], 4), 8)
    dense.set_weights([100 * np.stack([left, -left], axis=1), np.zeros(2)])
    wishes = ImportOptions("gap", check=halves(tmp_path / "photos"))
    card = import_model(store, save(model, tmp_path), wishes)
    assert (card.input.preprocessing.name, card.input.resize) == ("caffe", "image_dataset")
    told = [note for note in card.notes if note.startswith("--check on")]
    assert len(told) == 2
    for note, holds in zip(told, ("caffe", "image_dataset"), strict=True):
        assert f"stands out, so the assumed {holds} holds: {holds} 100.0 % right" in note
    assert any(note.startswith("assumed --preprocessing caffe") for note in card.notes)


def test_no_preprocessing_is_tried_in_front_of_the_models_own(folder, store, tmp_path):
    paths, classes = files(folder)
    inner = fitted(taken(loaded(paths, "load_img"), "unit"), classes, "unit")
    pixels = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(pixels, inner(keras.layers.Rescaling(1 / 255)(pixels)))
    card = import_model(store, save(model, tmp_path), ImportOptions("gap", check=folder))
    assert (card.input.preprocessing.name, card.input.resize) == ("none", "load_img")
    assert not any("preprocessing unit" in note for note in card.notes)


def test_a_saved_model_is_checked_as_well(folder, store, tmp_path):
    paths, classes = files(folder)
    model = fitted(taken(loaded(paths, "load_img"), "bgr-unit"), classes, "unit")
    model.export(tmp_path / "exported", verbose=False)
    card = import_model(store, tmp_path / "exported", ImportOptions("gap", check=folder))
    assert card.source.format == "saved_model"
    assert (card.input.preprocessing, card.input.resize) == (bgr("unit"), "load_img")


@pytest.fixture(scope="module")
def named(folder, tmp_path_factory) -> Path:
    """A file of a model with a Lambda that only names a `preprocess_input`; ResNet50's was meant."""
    paths, classes = files(folder)
    inner = fitted(taken(loaded(paths, "load_img"), "caffe"), classes, "caffe")
    pixels = keras.Input((SIDE, SIDE, 3))
    whose = keras.layers.Lambda(
        keras.applications.resnet50.preprocess_input, output_shape=(SIDE, SIDE, 3)
    )
    return save(keras.Model(pixels, inner(whose(pixels))), tmp_path_factory.mktemp("named"))


def test_whose_function_a_lambda_names_is_found_out(folder, store, named):
    card = import_model(store, named, ImportOptions("gap", check=folder))
    assert (card.input.preprocessing.name, card.input.resize) == ("caffe", "load_img")


def test_a_lambda_of_which_photographs_tell_nothing_is_refused(named, store, tmp_path):
    others = write(tmp_path / "others", seed=7)
    with pytest.raises(CommandError, match="a name that does not say whose function it is"):
        import_model(store, named, ImportOptions("gap", check=others))
    assert store.heads() == []


@pytest.fixture(scope="module")
def units(folder, tmp_path_factory) -> Path:
    """A file of a model that was trained on pixels / 255, nearest neighbours."""
    paths, classes = files(folder)
    model = fitted(taken(loaded(paths, "load_img"), "unit"), classes, "unit")
    return save(model, tmp_path_factory.mktemp("units"))


def test_what_was_said_is_kept_and_doubted(folder, store, units):
    said = ImportOptions("gap", check=folder, preprocessing=PREPROCESSING["caffe"])
    card = import_model(store, units, said)
    assert card.input.preprocessing == PREPROCESSING["caffe"]
    assert any("preprocessing unit is better than the given caffe" in note for note in card.notes)


def test_where_no_answer_is_better_than_chance_the_assumption_stays(units, store, tmp_path):
    others = write(tmp_path / "others", seed=7)
    card = import_model(store, units, ImportOptions("gap", check=others))
    assert (card.input.preprocessing.name, card.input.resize) == ("caffe", "image_dataset")
    assert any("better than chance" in note for note in card.notes)


def test_a_head_is_checked_and_the_printed_import_mends_it(folder, store, units, run_here):
    place = ("--store-dir", str(store.root))
    words = ("import", str(units), "--head", "gap", "--check", str(folder), "--preprocessing", "tf")
    assert run_here(*words, "--resize", "bilinear", *place).returncode == 0
    wrong = run_here("check", "gap", "--images", str(folder), *place)
    assert wrong.returncode == 1
    command = shlex.split(wrong.stdout.strip().splitlines()[-1])
    assert command[:2] == ["resnet-heads", "import"]
    assert run_here(*command[1:]).returncode == 0
    mended = store.card("gap", 2)
    assert (mended.input.preprocessing.name, mended.input.resize) == ("unit", "load_img")
    assert mended.labels == LABELS
    assert run_here("check", "gap", "--images", str(folder), *place).returncode == 0


def test_the_printed_import_repeats_numbers_of_ones_own(folder, store, tmp_path, run_here):
    paths, classes = files(folder)
    model = fitted(taken(loaded(paths, "load_img"), "numbers"), classes, "numbers")
    numbers = ("--order", "bgr", "--mean", "100,110,120", "--std", "50,60,70")
    place = ("--store-dir", str(store.root))
    words = ("import", str(save(model, tmp_path)), "--head", "gap", "--check", str(folder), *numbers)
    assert run_here(*words, "--resize", "bilinear", *place).returncode == 0
    wrong = run_here("check", "gap", "--images", str(folder), *place)
    assert run_here(*shlex.split(wrong.stdout.strip().splitlines()[-1])[1:]).returncode == 0
    first, second = (store.card("gap", version).input for version in (1, 2))
    assert second == first.model_copy(update={"resize": "load_img"})


def test_the_printed_import_names_the_size_where_the_model_takes_any(store, tmp_path, run_here):
    """Reds against blues: with the channels swapped every answer is wrong."""
    for label, colour in (("blue", 2), ("red", 0)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(24):
            pixels = np.random.default_rng(number + 99 * colour).integers(0, 99, (50, 40, 3), np.uint8)
            pixels[..., colour] += 99
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    same, dense = keras.layers.Conv2D(3, 1), keras.layers.Dense(2, activation="softmax")
    pooling = keras.layers.GlobalAveragePooling2D()
    model = keras.Sequential([keras.Input((None, None, 3)), same, pooling, dense])
    same.set_weights([np.eye(3)[None, None], np.zeros(3)])
    dense.set_weights([np.float32([[-1, 1], [0, 0], [1, -1]]), np.zeros(2)])
    place, photos = ("--store-dir", str(store.root)), str(tmp_path / "photos")
    words = ("import", str(save(model, tmp_path)), "--head", "gap", "--check", photos, "--size", "48")
    assert run_here(*words, "--order", "bgr", *place).returncode == 0
    wrong = run_here("check", "gap", "--images", photos, *place)
    assert wrong.returncode == 1
    command = shlex.split(wrong.stdout.strip().splitlines()[-1])
    assert command[command.index("--size") + 1] == "48"
    assert run_here(*command[1:]).returncode == 0
    assert store.card("gap", 2).input.preprocessing.order == "rgb"


def test_without_a_check_import_prints_the_line_that_would(folder, store, units, run_here, tmp_path):
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    place = ("--store-dir", str(store.root))
    words = ("import", str(units), "--head", "gap", "--labels", str(tmp_path / "labels.txt"), *place)
    line = run_here(*words).stdout.splitlines()[-1]
    assert line.startswith("  to settle it: resnet-heads check gap --images FOLDER")
    said = line.split("resnet-heads ")[1].replace("FOLDER", str(folder))
    assert run_here(*shlex.split(said)).returncode == 1
    told = run_here(*words, "--preprocessing", "unit", "--resize", "load_img", "--exif", "ignored")
    assert "to settle it" not in told.stdout
    assert not any("to settle it" in note for note in store.card("gap", 1).notes)


def test_labels_that_are_permuted_are_told(folder, store, tmp_path):
    paths, classes = files(folder)
    model = fitted(taken(loaded(paths, "image_dataset"), "unit"), classes, "unit")
    (tmp_path / "labels.txt").write_text("\n".join((*LABELS[1:], LABELS[0])))
    wishes = ImportOptions("gap", tmp_path / "labels.txt", check=folder)
    card = import_model(store, save(model, tmp_path), wishes)
    (told,) = (note for note in card.notes if "labels seem to be in another order" in note)
    assert "100.0% would be right" in told


def test_some_classes_are_enough_where_the_labels_are_given(folder, store, units, tmp_path):
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    for label in LABELS[1:4]:
        shutil.copytree(folder / label, tmp_path / "some" / label)
    wishes = ImportOptions("gap", tmp_path / "labels.txt", check=tmp_path / "some")
    card = import_model(store, units, wishes)
    assert (card.input.preprocessing.name, card.input.resize) == ("unit", "load_img")
    with pytest.raises(CommandError, match=r"has 5 classes, but 3 folders are in that of --check"):
        import_model(store, units, ImportOptions("gap", check=tmp_path / "some"))


def test_an_interrupt_leaves_the_store_as_it_was(folder, store, units, snapshot):
    before = snapshot(store.root.parent)
    words = (
        "import",
        str(units),
        "--head",
        "gap",
        "--check",
        str(folder),
        "--store-dir",
        str(store.root),
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "service", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert any(line.startswith("Checking what was done") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, ("", ""))
    assert snapshot(store.root.parent) == before


@pytest.mark.parametrize("exif", ["applied", "ignored"])
def test_exif_is_measured_where_pictures_are_turned(exif, store, tmp_path):
    folder = write(tmp_path / "turned")
    block = Image.Exif()
    block[0x0112] = 6
    for path in folder.rglob("*[02468].png"):  # Half of them.
        with Image.open(path) as image:
            image.save(path, exif=block)

    def load(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            kept = ImageOps.exif_transpose(image) if exif == "applied" else image
            return np.asarray(kept.convert("RGB").resize((SIDE, SIDE), NEAREST))

    paths, classes = files(folder)
    values = np.stack([load(path) for path in paths]).astype("float32")
    model = fitted(taken(values, "unit"), classes, "unit")
    wishes = ImportOptions("gap", check=folder, resize="load_img", preprocessing=PREPROCESSING["unit"])
    assert import_model(store, save(model, tmp_path), wishes).input.exif == exif


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [(("apple", "pear"), "has no label 'banana'"), (("apple",), "holds 1 labels")],
)
def test_folders_that_are_no_labels_are_refused(labels, sentence, folder, store, units, tmp_path):
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    with pytest.raises(CommandError, match=sentence):
        import_model(store, units, ImportOptions("gap", tmp_path / "labels.txt", check=folder))
    assert store.heads() == []


def test_a_check_ends_by_its_clock_with_what_it_has(folder, units):
    ticks = itertools.count(0, 30)
    bare = open_source(units).cut((SIDE, SIDE), PREPROCESSING["none"])
    caffe = Input(
        height=SIDE,
        width=SIDE,
        decode="exact",
        resize="load_img",
        preprocessing=PREPROCESSING["caffe"],
    )
    measured = measure(bare, caffe, (), choose(folder, LABELS), lambda: next(ticks))
    assert {measured.score(one).images for one in measured.rows} == {8}
