"""What `import` takes, says and refuses; a refusal is one sentence and leaves the store as it was."""

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_models import CLASSES, LABELS, SIDE, chained, headed, pixels, save, small_backbone, softmax
from process import run
from stored import empty

from service.errors import CommandError
from service.lab.models.importing import ImportOptions, import_model
from service.store.card import PREPROCESSING
from service.store.layout import MODEL, Store, sha256_of

L = keras.layers
CASES = Path(__file__).parents[1] / "cases" / "labels"
SHAPE = (SIDE, SIDE, 3)
TWO = ("no", "yes")


def fronted(*layers: L.Layer, shape=SHAPE) -> keras.Model:
    """The layers, a convolution, GAP and softmax."""
    stack = (*layers, L.Conv2D(4, 3), L.GlobalAveragePooling2D(), softmax())
    return keras.Sequential([keras.Input(shape), *stack])


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A model that can be imported."""
    return save(headed(L.GlobalAveragePooling2D(), softmax()), tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def filled(good, tmp_path_factory) -> Store:
    """A store that holds one version, which no refusal may touch."""
    folder = tmp_path_factory.mktemp("filled")
    store = empty(folder)
    (folder / "labels.txt").write_text("\n".join(LABELS))
    import_model(store, good, ImportOptions("gap", folder / "labels.txt"))
    return store


@pytest.fixture
def refused(filled, snapshot, tmp_path) -> Callable[..., str]:
    """Imports into the filled store; what it said when it refused, and that it wrote nothing."""

    def refused(file: Path | keras.Model, labels: Path | tuple[str, ...] = LABELS, head="gap", **wishes):
        if not isinstance(file, Path):
            file = save(file, tmp_path)
        if not isinstance(labels, Path):
            labels = labels_file(tmp_path, labels)
        before = snapshot(filled.root.parent)
        with pytest.raises(CommandError) as caught:
            import_model(filled, file, ImportOptions(head, labels, **wishes))
        assert snapshot(filled.root.parent) == before
        sentence = str(caught.value)
        assert len(sentence.splitlines()) == 1
        assert len(sentence) <= 300
        return sentence

    return refused


def labels_file(folder: Path, labels: tuple[str, ...]) -> Path:
    path = folder / "labels.txt"
    path.write_text("\n".join(labels) + "\n")
    return path


# models that cannot be taken


class Custom(L.Layer):
    """A layer of somebody's own, whose class is not here when the file is loaded."""

    def call(self, inputs):
        return inputs * 2


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """No graph, only a method; registered, so that the file can be loaded."""

    def __init__(self, **options):
        super().__init__(**options)
        self.stack = [L.Conv2D(4, 3), L.Flatten(), softmax()]

    def call(self, inputs):
        for layer in self.stack:
            inputs = layer(inputs)
        return inputs


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, *SHAPE), "float32"))
    return model


def two_inputs() -> keras.Model:
    model, other = fronted(), keras.Input((3,))
    tensor = L.Concatenate()([model.layers[-2].output, other])
    return keras.Model([model.inputs[0], other], softmax()(tensor))


def two_outputs() -> keras.Model:
    model = fronted()
    return keras.Model(model.inputs[0], [model.outputs[0], softmax()(model.layers[-2].output)])


def attention() -> keras.Model:
    positions = L.Reshape((64, 32))
    attended = L.MultiHeadAttention(2, 8)
    base = small_backbone()
    sequence = positions(base.output)
    tensor = chained(attended(sequence, sequence), L.GlobalAveragePooling1D(), softmax())
    return keras.Model(base.inputs[0], tensor)


def attention_on_features() -> keras.Model:
    base = small_backbone()
    rows = L.Reshape((4, 8))(L.GlobalAveragePooling2D()(base.output))
    attended = L.MultiHeadAttention(2, 8)(rows, rows)
    return keras.Model(base.inputs[0], softmax()(L.Flatten()(attended)))


def forked(join: L.Layer, *endings: L.Layer) -> keras.Model:
    """A branch of GAP for each ending, joined."""
    base = small_backbone()
    branches = [ending(L.GlobalAveragePooling2D()(base.output)) for ending in endings]
    return keras.Model(base.inputs[0], join(branches))


def two_maps() -> keras.Model:
    """GAP of the last map and of the one before it, as pyramids have it."""
    base = small_backbone()
    earlier = next(layer for layer in base.layers if isinstance(layer, L.Activation))
    pooled = [L.GlobalAveragePooling2D()(one.output) for one in (earlier, base.layers[-1])]
    return keras.Model(base.inputs[0], softmax()(L.Concatenate()(pooled)))


def two_backbones() -> keras.Model:
    inputs = keras.Input(SHAPE)
    other = keras.models.clone_model(small_backbone())
    other.name = "other"
    pooled = [L.GlobalAveragePooling2D()(base(inputs)) for base in (small_backbone(), other)]
    return keras.Model(inputs, softmax()(L.Concatenate()(pooled)))


def picture_too() -> keras.Model:
    base = small_backbone()
    pooled = [L.GlobalAveragePooling2D()(one) for one in (base.output, base.inputs[0])]
    return keras.Model(base.inputs[0], softmax()(L.Concatenate()(pooled)))


def under_policy(policy: str) -> keras.Model:
    keras.config.set_dtype_policy(policy)
    try:
        return fronted()
    finally:
        keras.config.set_dtype_policy("float32")


def channels_first() -> keras.Model:
    keras.config.set_image_data_format("channels_first")
    try:
        return fronted(shape=(3, SIDE, SIDE))
    finally:
        keras.config.set_image_data_format("channels_last")


def turned_to_channels_first() -> keras.Model:
    turned = (L.Permute((3, 1, 2)), L.Conv2D(4, 3, data_format="channels_first"))
    return keras.Sequential(
        [keras.Input(SHAPE), *turned, L.GlobalAveragePooling2D("channels_first"), softmax()]
    )


def rare_operation() -> keras.Model:
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, fronted()(keras.ops.erfinv(inputs / 1000)))


def not_a_number() -> keras.Model:
    model = fronted()
    model.layers[-1].bias.assign(np.full(CLASSES, np.nan))
    return model


@dataclass(frozen=True)
class Refusal:
    """A model, and words that the sentence about it must hold."""

    build: Callable[[], keras.Model]
    words: tuple[str, ...]
    labels: tuple[str, ...] = LABELS


REFUSALS = {
    "a Lambda": Refusal(lambda: fronted(L.Lambda(lambda x: x / 255)), ("Lambda", "safe mode")),
    "a custom layer": Refusal(lambda: fronted(Custom()), ("custom object",)),
    "a subclass": Refusal(subclassed, ("subclass", "graph")),
    "two inputs": Refusal(two_inputs, ("one input and one output", "2 and 1")),
    "two outputs": Refusal(two_outputs, ("one input and one output", "1 and 2")),
    "grey pictures": Refusal(
        lambda: fronted(shape=(SIDE, SIDE, 1)), ("input", "(64, 64, 1)", "rgb_to_grayscale")
    ),
    "no pictures": Refusal(
        lambda: keras.Sequential([keras.Input((7,)), softmax()]), ("input", "(height, width, 3)")
    ),
    "an MLP": Refusal(
        lambda: keras.Sequential([keras.Input(SHAPE), L.Flatten(), softmax()]), ("no feature map",)
    ),
    "no dense layer": Refusal(
        lambda: headed(L.Conv2D(CLASSES, 1), L.GlobalAveragePooling2D(), L.Softmax()),
        ("no dense layer",),
    ),
    "a map of classes": Refusal(lambda: headed(softmax()), ("(8, 8, 5)", "row of scores")),
    "attention": Refusal(attention, ("GlobalAveragePooling1D", "may hold")),
    "attention on features": Refusal(attention_on_features, ("MultiHeadAttention", "may hold")),
    "a convolution after the pooling": Refusal(
        lambda: headed(
            L.GlobalAveragePooling2D(), L.Reshape((4, 8, 1)), L.Conv2D(2, 3), L.Flatten(), softmax()
        ),
        ("Conv2D", "may hold"),
    ),
    "two feature maps": Refusal(two_maps, ("reads 2 feature maps", "it may read one", "begin at")),
    "two backbones": Refusal(two_backbones, ("reads 2 feature maps", "import a model of each")),
    "a head that reads the picture too": Refusal(picture_too, ("reads 2 feature maps",)),
    "branches that end in different ways": Refusal(
        lambda: forked(L.Average(), softmax(), L.Dense(CLASSES, activation="sigmoid")),
        ("end in sigmoid and softmax", "end alike"),
    ),
    "two sigmoids, concatenated": Refusal(
        lambda: forked(L.Concatenate(), L.Dense(1, "sigmoid"), L.Dense(1, "sigmoid")),
        ("multi-label",),
        TWO,
    ),
    "two softmaxes, added": Refusal(
        lambda: forked(L.Add(), softmax(), softmax()), ("no probabilities", "Add", "after the softmax")
    ),
    "one sigmoid, stretched": Refusal(
        lambda: headed(L.Flatten(), L.Dense(1, "sigmoid"), L.Rescaling(2, -0.5)),
        ("no probabilities", "Rescaling", "after the sigmoid"),
        TWO,
    ),
    "a softmax of keras.ops and then another layer": Refusal(
        lambda: headed(L.Flatten(), L.Dense(CLASSES), keras.ops.softmax, L.Rescaling(2)),
        ("no probabilities", "Rescaling"),
    ),
    "positions in the output": Refusal(
        lambda: headed(
            L.GlobalAveragePooling2D(keepdims=True), L.Conv2D(CLASSES, 1, activation="softmax")
        ),
        ("(1, 1, 5)", "row of scores", "Flatten"),
    ),
    "several sigmoids": Refusal(
        lambda: headed(L.Flatten(), L.Dense(CLASSES, activation="sigmoid")), ("multi-label",)
    ),
    "two sigmoids": Refusal(
        lambda: headed(L.Flatten(), L.Dense(2), L.Activation("sigmoid")), ("multi-label",), TWO
    ),
    "one linear unit": Refusal(
        lambda: headed(L.Flatten(), L.Dense(1)), ("one linear unit", "from_logits", "'sigmoid'"), TWO
    ),
    "one softmax unit": Refusal(
        lambda: headed(L.Flatten(), L.Dense(1, "softmax")), ("one softmax unit",), TWO
    ),
    "another ending": Refusal(
        lambda: headed(L.Flatten(), L.Dense(CLASSES, "relu")), ("'relu'", "softmax")
    ),
    "a softmax that is not the last step": Refusal(
        lambda: headed(L.Flatten(), softmax(), L.BatchNormalization()),
        ("no probabilities", "BatchNormalization", "after the softmax"),
    ),
    "weights that are no numbers": Refusal(not_a_number, ("probabilities", "sum to 1")),
    "too few labels": Refusal(fronted, ("5 classes", "4 labels"), LABELS[:4]),
    "too many labels": Refusal(fronted, ("5 classes", "6 labels"), (*LABELS, "fig")),
    "labels for one sigmoid": Refusal(
        lambda: headed(L.Flatten(), L.Dense(1, "sigmoid")), ("2 classes", "5 labels")
    ),
    "float16": Refusal(lambda: under_policy("float16"), ("float16", "float32 policy")),
    "bfloat16": Refusal(lambda: under_policy("bfloat16"), ("bfloat16", "float32 policy")),
    "channels first": Refusal(channels_first, ("(3, 64, 64)", "(height, width, 3)")),
    "channels first inside": Refusal(turned_to_channels_first, ("channels_first",)),
    "what OpenVINO has not": Refusal(
        rare_operation,
        ("OpenVINO", "Erfinv"),
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_model_that_cannot_be_taken_is_refused_in_a_sentence(what, refused):
    refusal = REFUSALS[what]
    sentence = refused(refusal.build(), refusal.labels)
    assert all(words in sentence for words in refusal.words), sentence


def test_a_sequential_that_never_saw_its_input_is_refused(refused):
    unbuilt = keras.Sequential([L.Conv2D(4, 3), L.Flatten(), softmax()])
    with pytest.warns(UserWarning, match="not yet been built"):
        assert "before it knew its input" in refused(unbuilt)


# files that cannot be taken


def test_a_missing_file_is_refused(refused, tmp_path):
    assert "There is no file" in refused(tmp_path / "nowhere.keras")


def test_a_folder_named_like_a_model_is_refused(refused, tmp_path):
    (tmp_path / "folder.keras").mkdir()
    assert "a folder without a model" in refused(tmp_path / "folder.keras")


def test_other_content_under_the_right_name_is_refused(refused, tmp_path):
    (tmp_path / "other.keras").write_bytes(b"hello, I am a model\n")
    assert "other.keras is no Keras 3 file" in refused(tmp_path / "other.keras")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(refused, good, tmp_path, kept):
    content = good.read_bytes()
    (tmp_path / "cut.keras").write_bytes(content[: int(kept * len(content))])
    assert "damaged" in refused(tmp_path / "cut.keras")


@pytest.mark.parametrize("part", ["config.json", "model.weights.h5"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"{}"])
def test_a_file_with_a_part_missing_or_broken_is_refused(refused, good, tmp_path, part, content):
    broken = tmp_path / "broken.keras"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(broken, "w") as target:
        for name in source.namelist():
            if name != part:
                target.writestr(name, source.read(name))
            elif content is not None:
                target.writestr(name, content)
    assert "broken.keras cannot be loaded" in refused(broken)


def test_a_file_with_flipped_bytes_is_refused(refused, good, tmp_path):
    content = bytearray(good.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 255 for byte in content[middle : middle + 64])
    (tmp_path / "flipped.keras").write_bytes(content)
    assert "cannot be loaded" in refused(tmp_path / "flipped.keras")


def test_a_file_whose_weights_are_of_another_model_is_refused(refused, good, tmp_path):
    other = save(fronted(), tmp_path, "other")
    mixed = tmp_path / "mixed.keras"
    with (
        zipfile.ZipFile(good) as one,
        zipfile.ZipFile(other) as two,
        zipfile.ZipFile(mixed, "w") as target,
    ):
        target.writestr("metadata.json", one.read("metadata.json"))
        target.writestr("config.json", one.read("config.json"))
        target.writestr("model.weights.h5", two.read("model.weights.h5"))
    assert "the weights in it are not those of its layers" in refused(mixed)


# what else may be wrong


@pytest.mark.parametrize(
    "head", ["", "Gap", "my head", "../gap", ".hidden", "-gap", "g/p", "gäp", "gap\n", "g" * 64]
)
def test_a_bad_name_is_refused(refused, good, head):
    told = refused(good, head=head)
    assert "not a head's name" in told
    assert "at most 63" in told


def test_a_missing_labels_file_is_refused(refused, good, tmp_path):
    assert "cannot be read: No such file" in refused(good, tmp_path / "nowhere.txt")


def test_a_folder_of_labels_is_refused(refused, good, tmp_path):
    assert "cannot be read: Is a directory" in refused(good, tmp_path)


REFUSED_LABELS = {
    "class_indices-three.json": "has 5 classes, but 3 labels were given",
    "list-three.json": "has 5 classes, but 3 labels were given",
    "commas.txt": "one label a line",
    "printed-list.txt": "one label a line",
    "duplicates.txt": "'daisy' twice, at line 1 and line 2",
}


@pytest.mark.parametrize("name", REFUSED_LABELS)
def test_a_wrong_labels_file_is_refused(refused, good, name):
    assert REFUSED_LABELS[name] in refused(good, CASES / name)


def test_a_picture_as_labels_is_refused(refused, good):
    assert "is not UTF-8 text" in refused(good, Path(__file__).parents[2] / "examples/red-top-left.jpg")


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_refused(refused, good, size):
    assert f"{size} is not an input side" in refused(good, size=size)


def test_another_size_than_the_models_own_is_refused(refused, good):
    assert "fixed to (64, 64), not (224, 224)" in refused(good, size=224)


def test_a_size_too_small_for_the_model_is_refused(refused):
    model = fronted(L.AveragePooling2D(9), shape=(None, None, 3))
    assert "cannot run the model on 8x8 pixels" in refused(model, size=8)


@pytest.mark.parametrize("name", ["caffe", "tf", "torch", "unit"])
def test_preprocessing_in_front_of_a_model_for_whole_numbers_is_refused(refused, name):
    inputs = keras.Input(SHAPE, dtype="uint8")
    model = keras.Model(inputs, fronted(L.Rescaling(1 / 255))(inputs))
    assert "whole numbers" in refused(model, preprocessing=PREPROCESSING[name])


# what is taken


@pytest.fixture
def store(tmp_path) -> Store:
    return empty(tmp_path)


@pytest.fixture
def labels(tmp_path) -> Path:
    return labels_file(tmp_path, LABELS)


def test_the_file_in_the_store_is_the_imported_one_byte_for_byte(store, good, labels):
    card = import_model(store, good, ImportOptions("gap", labels))
    stored = store.folder("gap", 1) / MODEL
    assert stored.read_bytes() == good.read_bytes()
    assert card.source.files == {MODEL: sha256_of(good)}
    assert card == store.read_card("gap", 1)
    assert (card.origin, card.labels) == ("imported", LABELS)


def test_a_second_import_is_version_2_and_leaves_the_first(store, good, labels, snapshot):
    import_model(store, good, ImportOptions("gap", labels))
    first = snapshot(store.folder("gap", 1))
    other = save(headed(L.GlobalMaxPooling2D(), softmax()), good.parent, "other")
    assert import_model(store, other, ImportOptions("gap", labels)).version == 2
    assert store.versions("gap") == [2, 1]
    assert snapshot(store.folder("gap", 1)) == first


def test_nothing_but_versions_and_compiled_files_is_left_behind(store, good, labels):
    import_model(store, good, ImportOptions("gap", labels))
    assert {path.name for path in store.root.iterdir()} == {"gap", ".compiled"}
    assert {path.name for path in (store.root / "gap").iterdir()} == {"1"}
    assert not any(path.name.startswith(".staging") for path in store.root.rglob("*"))
    assert not store.cache.exists()


def test_equal_backbones_are_compiled_once(store, good, labels, tmp_path):
    flatten = save(headed(L.Flatten(), softmax()), tmp_path, "flatten")
    cards = [import_model(store, good, ImportOptions("gap", labels))]
    backbone = store.compiled(cards[0].backbone.digest, "openvino")
    written = {path: path.stat().st_mtime_ns for path in backbone.iterdir()}
    cards.append(import_model(store, flatten, ImportOptions("flatten", labels)))
    assert cards[0].backbone == cards[1].backbone
    assert len(list((store.root / ".compiled").iterdir())) == 3, "one backbone, two heads"
    assert {path: path.stat().st_mtime_ns for path in backbone.iterdir()} == written


def test_each_assumption_is_stated(store, good, labels):
    notes = " ".join(import_model(store, good, ImportOptions("gap", labels)).notes)
    assert "assumed --preprocessing caffe" in notes
    assert "assumed --resize image_dataset" in notes
    assert "softmax" not in notes
    assert "sigmoid" not in notes
    assert "--size" not in notes


def test_what_was_asked_for_is_no_assumption(store, good, labels):
    wishes = ImportOptions(
        "gap",
        labels,
        decode="scaled",
        resize="load_img",
        preprocessing=PREPROCESSING["caffe"],
        exif="applied",
    )
    card = import_model(store, good, wishes)
    assert card.notes == ()
    assert (card.input.decode, card.input.resize, card.input.exif) == ("scaled", "load_img", "applied")


def test_added_softmax_found_preprocessing_and_assumed_size_are_stated(store, labels, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            L.Rescaling(1 / 255),
            L.Conv2D(4, 3, 4),
            L.GlobalAveragePooling2D(),
            L.Dense(CLASSES),
        ]
    )
    card = import_model(store, save(model, tmp_path), ImportOptions("gap", labels))
    notes = " ".join(card.notes)
    assert "a softmax is added" in notes
    assert "found preprocessing inside" in notes
    assert "assumed input 224x224" in notes
    assert (card.input.height, card.input.width) == (224, 224)
    assert card.input.preprocessing == PREPROCESSING["none"]


def test_preprocessing_on_top_of_the_model_s_own_is_warned_of(store, labels, tmp_path):
    model = fronted(L.Rescaling(1 / 127.5, -1))
    wishes = ImportOptions("gap", labels, preprocessing=PREPROCESSING["unit"])
    notes = " ".join(import_model(store, save(model, tmp_path), wishes).notes)
    assert "warning: the model has preprocessing inside, and --preprocessing unit is added" in notes


@pytest.mark.parametrize(
    ("resize", "exif"),
    [
        ("image_dataset", "ignored"),
        ("load_img", "ignored"),
        ("bilinear", "applied"),
        ("center_crop", "applied"),
    ],
)
def test_exif_is_ignored_where_that_loader_ignores_it(store, good, labels, resize, exif):
    card = import_model(store, good, ImportOptions("gap", labels, resize=resize))
    assert card.input.exif == exif
    assert ("assumed --exif ignored" in " ".join(card.notes)) == (exif == "ignored")


def test_one_sigmoid_is_stated_with_the_label_it_stands_for(store, tmp_path):
    model = headed(L.GlobalAveragePooling2D(), L.Dense(1, "sigmoid"))
    wishes = ImportOptions("ripe", labels_file(tmp_path, TWO))
    card = import_model(store, save(model, tmp_path), wishes)
    assert "one sigmoid, taken as the probability of 'yes'" in " ".join(card.notes)


def test_a_model_for_any_size_takes_the_size_asked_for(store, labels, tmp_path):
    file = save(fronted(shape=(None, None, 3)), tmp_path)
    card = import_model(store, file, ImportOptions("gap", labels, size=48))
    assert (card.input.height, card.input.width) == (48, 48)
    assert not any("--size" in note for note in card.notes)


def test_an_oblong_input_is_taken_as_it_is(store, labels, tmp_path):
    file = save(fronted(shape=(32, 80, 3)), tmp_path)
    card = import_model(store, file, ImportOptions("gap", labels))
    assert (card.input.height, card.input.width) == (32, 80)
    assert card.backbone.feature_shape == (30, 78, 4)


@pytest.mark.parametrize(
    "name",
    [
        "good.txt",
        "good-bom-crlf.txt",
        "class_indices.json",
        "class_indices-shuffled.json",
        "index_to_label.json",
        "list.json",
        "numbered.txt",
    ],
)
def test_labels_are_taken_as_people_have_them(store, good, name):
    card = import_model(store, good, ImportOptions("gap", CASES / name))
    assert card.labels == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    told = [note for note in card.notes if "numbers 0 to 4" in note]
    assert len(told) == (name == "numbered.txt")


# once more


def test_the_same_file_again_is_not_published_again(store, good, labels, snapshot, capsys):
    """By another name, too: what counts is what is in it."""
    first = import_model(store, good, ImportOptions("gap", labels))
    before = snapshot(store.root)
    again = shutil.copy(good, labels.parent / "again.keras")
    caffe = PREPROCESSING["caffe"]
    explicit = ImportOptions("gap", labels, resize="image_dataset", preprocessing=caffe, exif="ignored")
    for wishes in (ImportOptions("gap", labels), explicit):
        assert import_model(store, Path(again), wishes) == first
        assert snapshot(store.root) == before
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith("gap version 1 holds this file already")
        assert told.endswith("nothing is published.")


def test_other_options_labels_or_head_publish_the_same_file_again(store, good, labels, tmp_path):
    import_model(store, good, ImportOptions("gap", labels))
    assert import_model(store, good, ImportOptions("gap", labels, resize="load_img")).version == 2
    (tmp_path / "others.txt").write_text("\n".join(reversed(LABELS)))
    assert import_model(store, good, ImportOptions("gap", tmp_path / "others.txt")).version == 3
    assert import_model(store, good, ImportOptions("another", labels)).version == 1


def test_a_version_behind_a_newer_one_is_told_with_the_way_to_serve_it(store, good, labels, capsys):
    import_model(store, good, ImportOptions("gap", labels))
    import_model(store, good, ImportOptions("gap", labels, resize="load_img"))
    capsys.readouterr()
    assert import_model(store, good, ImportOptions("gap", labels)).version == 1
    assert "version 2 goes on serving" in (told := capsys.readouterr().err)
    assert "RESNET_HEADS_PINNED=gap=1" in told


def test_the_same_file_again_mends_a_damaged_version(store, good, labels):
    import_model(store, good, ImportOptions("gap", labels))
    (store.folder("gap", 1) / MODEL).write_bytes(b"damaged")
    assert import_model(store, good, ImportOptions("gap", labels)).version == 2


def test_what_training_needed_need_not_be_here(store, labels, tmp_path):
    """A loss or metric of somebody's own is not needed to serve."""

    @keras.saving.register_keras_serializable("tests")
    def strange_loss(truth, guess):
        return keras.ops.mean(truth - guess)

    model = fronted()
    model.compile("adam", loss=strange_loss)
    model.fit(pixels(4).astype("float32"), np.zeros((4, CLASSES)), verbose=0)
    file = save(model, tmp_path)
    keras.saving.get_custom_objects().pop("tests>strange_loss")
    assert import_model(store, file, ImportOptions("gap", labels)).version == 1


def test_the_golden_probabilities_are_those_of_keras(store, good, labels):
    from service.serving.pixels import decode

    card = import_model(store, good, ImportOptions("gap", labels))
    given = decode.decode(card.golden.image, card.input, 10**6)[np.newaxis].astype("float32")
    model = keras.models.load_model(good)
    expected = model(keras.applications.resnet50.preprocess_input(given), training=False)[0]
    np.testing.assert_allclose(card.golden.probabilities, expected, atol=1e-6)
    assert max(card.golden.probabilities) > 1.2 / CLASSES, "a decided answer shows faults"


# the command line


@pytest.fixture
def command(filled, snapshot, tmp_path, run_here):
    """`resnet-heads import`, which must fail and write nothing."""

    def command(*arguments: str) -> str:
        before = snapshot(filled.root.parent)
        places = ("--store-dir", str(filled.root), "--labels", str(labels_file(tmp_path, LABELS)))
        done = run_here("import", *arguments, *places, RESNET_HEADS_CACHE_DIR=str(filled.cache))
        assert done.returncode == 2
        assert done.stdout == ""
        assert snapshot(filled.root.parent) == before
        (line,) = done.stderr.splitlines()
        assert line.startswith("resnet-heads: ")
        return line

    return command


def test_the_command_refuses_a_lambda(command, tmp_path):
    file = save(fronted(L.Lambda(lambda x: x / 255)), tmp_path)
    assert "Lambda" in command(str(file), "--head", "gap")


def test_the_command_refuses_a_text_file(command, tmp_path):
    (tmp_path / "text.keras").write_text("hello")
    assert "text.keras is no Keras 3 file" in command(str(tmp_path / "text.keras"), "--head", "gap")


def test_the_command_says_what_it_published_and_assumed(good, labels, tmp_path):
    arguments = ("--head", "mine", "--labels", str(labels), "--store-dir", str(tmp_path / "new"))
    done = run("import", str(good), *arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("mine version 1: 5 classes")
    assert "assumed --resize image_dataset" in done.stdout
    assert (tmp_path / "new/mine/1/card.json").is_file()
