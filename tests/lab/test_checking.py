"""`import --check` and `check`: which pixels a model was trained on is found out by photographs."""

import itertools
import shlex
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
from service.store.card import PREPROCESSING, Input
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
    wanted = PREPROCESSING[how.removeprefix("bgr-")]
    if how.startswith("bgr-"):
        wanted = wanted.model_copy(update={"order": "bgr"})
    assert (card.input.preprocessing, card.input.resize) == (wanted, resize)
    assert any(note.startswith("--check on") for note in card.notes)
    assert card.labels == LABELS
    assert any("took the folders of --check" in note for note in card.notes)


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
