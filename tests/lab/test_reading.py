"""A saved Keras file of any age becomes a model of today that answers as its own framework answered."""

import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from model_files import CASES, architecture, model_file, picture_files
from model_files import SPECS as ALL
from PIL import Image

from service.errors import CommandError
from service.lab.models.formats import GRAPH, recognise
from service.lab.models.reading import Loaded, load, load_model

SPECS = {name: spec for name, spec in ALL.items() if not (model_file(name) / GRAPH).exists()}
WEIGHTS_APART = [name for name in SPECS if architecture(name)]
REFUSED = {"k2-checkpoint-only", "k3-lambda-preprocess"}
IMAGENET_MEAN = np.array([103.939, 116.779, 123.68], np.float32)
PIXELS = {
    "none": lambda x: x,
    "unit": lambda x: x / 255,
    "tf": lambda x: x / 127.5 - 1,
    "caffe": lambda x: x[..., ::-1] - IMAGENET_MEAN,
}
L = keras.layers


def pictures(name: str) -> np.ndarray:
    files = [np.asarray(Image.open(file)) for file in picture_files(name)]
    return PIXELS[SPECS[name]["pixels"]](np.stack(files).astype("f4"))


def answers(loaded: Loaded, batch: np.ndarray) -> np.ndarray:
    given = loaded.model(batch, training=False)
    return np.asarray(given[0] if isinstance(given, list) else given)


def probabilities(loaded: Loaded, name: str) -> np.ndarray:
    """As the specs have them: two of one sigmoid, and those behind logits."""
    found = answers(loaded, pictures(name))
    if found.shape[1] == 1:
        second = 1 / (1 + np.exp(-found)) if loaded.is_from_logits else found
        return np.concatenate([1 - second, second], axis=1)
    if "no-shape" in name:
        return np.asarray(keras.ops.softmax(found))
    return found


def refused(path: Path, *others: Path, **options: bool) -> str:
    with pytest.raises(CommandError) as caught:
        load(path, *others, **options)
    sentence = str(caught.value)
    assert len(sentence) <= 300
    assert len(sentence.splitlines()) == 1
    assert sentence.startswith(path.name)
    return sentence


@pytest.mark.parametrize("name", sorted(SPECS.keys() - REFUSED))
def test_it_answers_as_the_framework_that_saved_it(name):
    loaded = load(model_file(name), architecture(name))
    expected = np.array(SPECS[name]["probabilities"])
    within = SPECS[name]["should"].get("within", 1e-4)
    np.testing.assert_allclose(probabilities(loaded, name), expected, atol=within)


@pytest.mark.filterwarnings("ignore:The structure of `inputs`")  # A list of one input.
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in SPECS
        if name.startswith("k3-") and name not in {*REFUSED, "k3-custom-train-step"}
    ],
)
def test_a_file_of_todays_keras_is_loaded_as_keras_loads_it(name):
    expected = keras.models.load_model(model_file(name), compile=False, safe_mode=True)
    model = load_model(model_file(name))
    for one, other in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(
        answers(Loaded(model), pictures(name)), answers(Loaded(expected), pictures(name))
    )


@pytest.mark.parametrize(
    "name", ["k2-functional-gap-h5", "tf215-partly-frozen-h5", "k231-partly-frozen-h5"]
)
def test_a_model_read_from_an_old_file_can_be_saved_as_one_of_today(name, tmp_path):
    loaded = load(model_file(name))
    loaded.model.save(tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    assert again.notes == ()
    np.testing.assert_array_equal(answers(loaded, pictures(name)), answers(again, pictures(name)))


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("k3-one-logit-keras", "MODEL.KERAS"),
        ("k3-one-logit-keras", "model.zip"),
        ("k2-pooling-avg-sigmoid", "model"),
    ],
)
def test_the_name_of_a_file_does_not_matter(name, changed, tmp_path):
    shutil.copyfile(model_file(name), tmp_path / changed)
    loaded = load(tmp_path / changed)
    np.testing.assert_allclose(probabilities(loaded, name), SPECS[name]["probabilities"], atol=1e-4)


@pytest.mark.parametrize("name", ["k2-sequential-gap-keras", "k305-sequential-gap-keras"])
def test_an_unpacked_file_is_loaded_from_its_folder(name, tmp_path):
    with zipfile.ZipFile(model_file(name)) as archive:
        archive.extractall(tmp_path / "unpacked")
    loaded = load(tmp_path / "unpacked")
    np.testing.assert_allclose(probabilities(loaded, name), SPECS[name]["probabilities"], atol=1e-4)
    assert sorted(one.name for one in (tmp_path / "unpacked").iterdir()) == [
        "config.json",
        "metadata.json",
        "model.weights.h5",
    ]


@pytest.mark.parametrize("saved_as", ["h5", "keras"])
def test_named_inputs_and_outputs_stay_named(saved_as, tmp_path):
    inputs = {"picture": keras.Input((8, 8, 3), name="picture")}
    x = L.Flatten()(inputs["picture"])
    model = keras.Model(inputs, {"a": L.Dense(2, name="a")(x), "b": L.Dense(3, name="b")(x)})
    model.compile(loss={"a": "mse", "b": "mae"})
    model.save(tmp_path / f"model.{saved_as}")
    loaded = load(tmp_path / f"model.{saved_as}")
    batch = {"picture": np.random.default_rng(1).random((2, 8, 8, 3), np.float32)}
    expected, given = model(batch), loaded.model(batch)
    for name in ("a", "b"):
        np.testing.assert_array_equal(given[name], expected[name])
    assert loaded.loss is None, "there are two"


# what the file says besides


@pytest.mark.parametrize(
    ("name", "loss", "is_from_logits"),
    [
        ("k3-one-logit-keras", "BinaryCrossentropy", True),
        ("k3-one-logit-h5", "BinaryCrossentropy", True),
        ("k2-pooling-avg-sigmoid", "mse", False),
        ("k2-custom-loss-metric", "focal", False),
        ("k1-old-flatten", "categorical_crossentropy", False),
        ("k2-sequential-gap-keras", "categorical_crossentropy", False),
        ("tf24-arithmetic-h5", None, False),
    ],
)
def test_the_loss_is_that_of_the_compile_configuration(name, loss, is_from_logits):
    loaded = load(model_file(name))
    assert (loaded.loss, loaded.is_from_logits) == (loss, is_from_logits)


@pytest.mark.parametrize("saved_as", ["h5", "keras"])
@pytest.mark.parametrize(
    ("given", "name", "is_from_logits"),
    [
        (keras.losses.MeanSquaredError(), "MeanSquaredError", False),
        (keras.losses.mean_squared_error, "mean_squared_error", False),
        (["mse"], "mse", False),
        ({"out": keras.losses.BinaryCrossentropy(from_logits=True)}, "BinaryCrossentropy", True),
    ],
    ids=["object", "function", "list", "dict"],
)
def test_a_loss_is_found_however_it_was_given(given, name, is_from_logits, saved_as, tmp_path):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, L.Dense(1, name="out")(L.Flatten()(inputs)))
    model.compile(loss=given)
    file = tmp_path / f"model.{saved_as}"
    model.save(file)
    loaded = load(file)
    assert (loaded.loss, loaded.is_from_logits) == (name, is_from_logits)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("saved_as", ["h5", "keras"])
def test_half_precision_becomes_float32_and_is_said(policy, saved_as, tmp_path):
    def built(dtype: str) -> keras.Model:
        keras.utils.set_random_seed(1)
        layers = (L.Conv2D(4, 3, dtype=dtype), L.BatchNormalization(dtype=dtype), L.Flatten())
        inner = keras.Sequential([keras.Input((8, 8, 3)), *layers])
        return keras.Sequential([keras.Input((8, 8, 3)), inner, L.Dense(3, dtype=dtype)])

    file = tmp_path / f"model.{saved_as}"
    built(policy).save(file)
    loaded = load(file)
    assert loaded.notes == (
        f"it was saved under {policy}; it computes in float32 here, and answers differ by rounding only "
        "(up to about 0.01)",
    )
    batch = np.random.default_rng(1).random((2, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(answers(loaded, batch), answers(Loaded(built("float32")), batch))


def test_a_class_with_a_graph_is_read_as_that_graph_and_said():
    (note,) = load(model_file("k3-custom-train-step")).notes
    assert "CustomModel, a class of its own" in note


@pytest.mark.parametrize(
    "name", ["k2-functional-gap-h5", "k2-tutorial-preprocess-inside-h5", "tfk-sequential-gap-keras"]
)
def test_of_what_changes_nothing_nothing_is_said(name):
    assert load(model_file(name)).notes == ()


# weights apart


def test_weights_without_their_layers_are_refused():
    name = WEIGHTS_APART[0]
    assert "holds weights and no model" in refused(model_file(name))


def test_weights_with_the_layers_of_another_model_are_refused():
    one, other, *_ = WEIGHTS_APART
    sentence = refused(model_file(one), architecture(other))
    assert "the weights in it are not those of its layers" in sentence


def test_an_architecture_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("class: Functional")
    assert "no JSON" in refused(model_file(WEIGHTS_APART[0]), tmp_path / "a.json")
    with pytest.raises(CommandError, match=r"nowhere\.json cannot be read: No such file"):
        load(model_file(WEIGHTS_APART[0]), tmp_path / "nowhere.json")


def test_an_architecture_beside_a_whole_model_is_refused():
    sentence = refused(model_file("k3-one-logit-keras"), architecture(WEIGHTS_APART[0]))
    assert "leave out --architecture" in sentence


# a Lambda


def test_a_lambda_that_only_names_a_function_is_refused_with_what_to_do():
    sentence = refused(model_file("k3-lambda-preprocess"))
    assert "Lambda(preprocess_input), a name that does not say whose function it is" in sentence
    assert "--preprocessing" in sentence


def test_it_is_left_out_where_somebody_says_what_it_did():
    name = "k3-lambda-preprocess"
    loaded = load(model_file(name), lambda_is_identity=True)
    assert loaded.notes == ("its Lambda is left out, and --preprocessing stands for what it did",)
    batch = PIXELS["caffe"](pictures(name))  # resnet50's, as the spec says
    np.testing.assert_allclose(answers(loaded, batch), SPECS[name]["probabilities"], atol=1e-4)


def test_a_lambda_elsewhere_than_on_the_input_is_not_left_out(tmp_path):
    function = keras.applications.resnet50.preprocess_input
    inputs = keras.Input((8, 8, 3))
    x = L.Lambda(function, name="late")(L.ReLU()(inputs))
    keras.Model(inputs, L.Flatten()(x)).save(tmp_path / "model.keras")
    assert "whose function it is" in refused(tmp_path / "model.keras", lambda_is_identity=True)


@pytest.mark.parametrize("is_identity", [False, True])
@pytest.mark.parametrize("saved_as", ["h5", "keras"])
def test_a_lambda_with_code_is_refused_whatever_is_said(saved_as, is_identity, tmp_path):
    file = tmp_path / f"model.{saved_as}"
    keras.Sequential([keras.Input((8, 8, 3)), L.Lambda(lambda x: x / 255), L.Flatten()]).save(file)
    sentence = refused(file, lambda_is_identity=is_identity)
    assert "Lambda layer with code" in sentence
    assert "Rescaling(1/255) or --preprocessing" in sentence


@pytest.mark.parametrize("is_identity", [False, True])
def test_a_lambda_of_a_function_of_keras_is_read_as_it_was(is_identity, tmp_path):
    layers = (L.Lambda(keras.activations.relu), L.Flatten())
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    model.save(tmp_path / "model.keras")
    batch = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype("float32")
    loaded = load(tmp_path / "model.keras", lambda_is_identity=is_identity)
    assert loaded.notes == ()
    np.testing.assert_array_equal(answers(loaded, batch), model(batch))


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize("saved_as", ["h5", "keras"])
@pytest.mark.parametrize("name", ["mine", "<lambda>"])
def test_an_activation_of_somebodys_own_is_refused_as_what_it_is(name, saved_as, tmp_path):
    activation = {"mine": mine, "<lambda>": lambda x: x}[name]
    layers = (L.Flatten(), L.Dense(2, activation=activation))
    keras.Sequential([keras.Input((8, 8, 3)), *layers]).save(tmp_path / f"model.{saved_as}")
    sentence = refused(tmp_path / f"model.{saved_as}")
    assert ("'mine', a custom object" if name == "mine" else "lambda") in sentence


def mine(x):
    return x


# what cannot be mended


def h5_with(tmp_path: Path, name: str, old: str, new: str) -> Path:
    """The case with other words in its configuration."""
    file = tmp_path / "model.h5"
    shutil.copyfile(model_file(name), file)
    with h5py.File(file, "r+") as opened:
        config = opened.attrs["model_config"]
        config = config.decode() if isinstance(config, bytes) else config
        assert old in config
        opened.attrs["model_config"] = config.replace(old, new)
    return file


@pytest.mark.parametrize("name", ["k1-old-flatten", "k2-functional-gap-h5", "k3-functional-gap-h5"])
def test_a_layer_of_somebodys_own_is_called_a_custom_object(name, tmp_path):
    file = h5_with(tmp_path, name, '"class_name": "ZeroPadding2D"', '"class_name": "MyPadding"')
    assert "it holds 'MyPadding', a custom object" in refused(file)


@pytest.mark.parametrize(
    ("name", "old", "new", "what"),
    [
        ("k2-functional-gap-h5", '"softmax"', '"hard_sigmoid"', "hard_sigmoid"),
        ("tf24-augmented-h5", '"RandomHeight"', '"RandomCrop"', "RandomCrop"),
        (
            "k1-old-flatten",
            '"class_name": "Flatten", "config": {',
            '"class_name": "UpSampling2D", "config": {"interpolation": "bilinear", ',
            "UpSampling2D with bilinear interpolation",
        ),
    ],
)
def test_what_keras_of_today_computes_otherwise_is_refused(name, old, new, what, tmp_path):
    sentence = refused(h5_with(tmp_path, name, old, new))
    assert f"it holds {what}, which Keras of today computes otherwise" in sentence


def test_a_layer_that_keras_has_no_longer_is_not_called_somebodys_own(tmp_path):
    change = ('"class_name": "Flatten"', '"class_name": "LocallyConnected2D"')
    sentence = refused(h5_with(tmp_path, "k1-old-flatten", *change))
    assert "LocallyConnected2D, a layer that Keras 3 has no longer" in sentence


def test_an_unknown_operation_of_tensorflow_is_named(tmp_path):
    file = h5_with(tmp_path, "k2-tutorial-preprocess-inside-h5", '"nn.bias_add"', '"math.erfinv"')
    assert "the operation tf.math.erfinv" in refused(file)


def test_an_operation_with_an_unknown_argument_is_refused(tmp_path):
    file = h5_with(
        tmp_path, "k2-tutorial-preprocess-inside-h5", '"data_format": "NHWC"', '"data_format": "NCHW"'
    )
    assert "it calls tf.nn.bias_add with data_format" in refused(file)


def test_a_file_of_keras_1_and_one_of_theano_are_refused(tmp_path):
    file = h5_with(tmp_path, "k1-old-flatten", "softmax", "softmax")
    for attribute, value, words in (
        ("backend", "theano", "Keras saved it on theano"),
        ("keras_version", "1.2.2", "Keras 1 wrote it"),
    ):
        with h5py.File(file, "r+") as opened:
            before = opened.attrs[attribute]
            opened.attrs[attribute] = value
        assert words in refused(file)
        with h5py.File(file, "r+") as opened:
            opened.attrs[attribute] = before


# weights that are not those of the layers: none is ever left as it was made up


@pytest.fixture
def changed(tmp_path):
    """The case, after a change of its weights."""

    def changed(name: str, change) -> Path:
        file = tmp_path / model_file(name).name
        shutil.copyfile(model_file(name), file)
        if file.suffix == ".keras":
            with zipfile.ZipFile(file) as archive:
                archive.extractall(tmp_path / "parts")
            with h5py.File(tmp_path / "parts" / "model.weights.h5", "r+") as opened:
                change(opened)
            with zipfile.ZipFile(file, "w") as archive:
                for part in sorted((tmp_path / "parts").iterdir()):
                    archive.write(part, part.name)
        else:
            with h5py.File(file, "r+") as opened:
                change(opened["model_weights"])
        return file

    return changed


def first_weights(group: h5py.Group) -> list[str]:
    names: list[str] = []
    group.visititems(lambda name, one: names.append(name) if isinstance(one, h5py.Dataset) else None)
    return [name for name in names if "optimizer" not in name]


def without_one(group):
    del group[first_weights(group)[0]]


def of_another_shape(group):
    name = first_weights(group)[0]
    del group[name]
    group[name] = np.zeros((2, 2), np.float32)


def with_one_more(group):
    name = first_weights(group)[0].rpartition("/")[0]
    group[f"{name}/9"] = np.zeros(3, np.float32)
    if "weight_names" in group[name].attrs or "layer_names" in group.attrs:
        top = group[name.split("/")[0]]
        names = [one.decode() if isinstance(one, bytes) else one for one in top.attrs["weight_names"]]
        top.attrs["weight_names"] = [*names, f"{name.partition('/')[2]}/9"]


@pytest.mark.parametrize("change", [without_one, of_another_shape, with_one_more])
@pytest.mark.parametrize(
    "name",
    [
        "k1-old-flatten",
        "k2-sequential-gap-h5",
        "k2-sequential-gap-keras",
        "tf212-partly-frozen-keras-v3",
        "k3-sequential-augment",
        "k3-functional-gap-h5",
    ],
)
def test_weights_that_are_not_those_of_the_layers_are_refused(name, change, changed):
    assert "the weights in it are not those of its layers" in refused(changed(name, change))


def test_weights_under_the_name_of_another_layer_go_to_that_layer(changed):
    """Of two layers of equal shape each gets its own, whatever the order in the file."""

    def turned(group):
        inner = group["sequential"]
        names = [one.decode() if isinstance(one, bytes) else one for one in inner.attrs["weight_names"]]
        inner.attrs["weight_names"] = names[::-1]

    name = "tf215-partly-frozen-h5"
    loaded = load(changed(name, turned))
    np.testing.assert_allclose(probabilities(loaded, name), SPECS[name]["probabilities"], atol=1e-4)


def test_every_case_lies_beside_its_spec():
    assert {recognise(model_file(name), has_architecture=True) for name in SPECS.keys() - REFUSED} == {
        "keras",
        "h5",
    }
    assert sum(path.stat().st_size for path in CASES.rglob("*") if path.is_file()) < 8e6
