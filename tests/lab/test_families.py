"""Which backbone of keras.applications a model stands on, told by its structure alone."""

from collections.abc import Callable
from pathlib import Path

import keras
import pytest
from keras_models import small_backbone

from service.lab.models.reading import load_model
from service.lab.models.split import Split, split
from service.lab.models.structure.family import Step, family_of

L = keras.layers
A = keras.applications
CASES = Path(__file__).parents[1] / "cases" / "models"

# What preprocess_input does in each module: PREPROCESSING's name for it.
FAMILIES = {
    "ResNet": "caffe",
    "ResNetV2": "tf",
    "VGG16": "caffe",
    "VGG19": "caffe",
    "DenseNet": "torch",
    "MobileNet": "tf",
    "MobileNetV2": "tf",
    "Inception": "tf",
    "Xception": "tf",
    "NASNet": "tf",
    "EfficientNet": "none",
    "MobileNetV3": "none",
    "ConvNeXt": "none",
}
LARGE = pytest.mark.slow
BUILT = [
    ("ResNet", A.ResNet50, 32),
    pytest.param("ResNet", A.ResNet101, 32, marks=LARGE),
    pytest.param("ResNet", A.ResNet152, 32, marks=LARGE),
    ("ResNetV2", A.ResNet50V2, 32),
    pytest.param("ResNetV2", A.ResNet152V2, 32, marks=LARGE),
    ("VGG16", A.VGG16, 32),
    ("VGG19", A.VGG19, 32),
    pytest.param("DenseNet", A.DenseNet121, 32, marks=LARGE),
    ("MobileNet", A.MobileNet, 32),
    ("MobileNetV2", A.MobileNetV2, 32),
    pytest.param("Inception", A.InceptionV3, 75, marks=LARGE),
    pytest.param("Inception", A.InceptionResNetV2, 75, marks=LARGE),
    ("Xception", A.Xception, 71),
    pytest.param("NASNet", A.NASNetMobile, 32, marks=LARGE),
    ("EfficientNet", A.EfficientNetB0, 32),
    pytest.param("EfficientNet", A.EfficientNetV2S, 32, marks=LARGE),
    ("MobileNetV3", A.MobileNetV3Small, 32),
    pytest.param("MobileNetV3", A.MobileNetV3Large, 32, marks=LARGE),
    ("ConvNeXt", A.ConvNeXtTiny, 32),
]


def headed(backbone: keras.Model, *layers: L.Layer) -> keras.Model:
    tensor = backbone.outputs[0]
    for layer in (*layers, L.GlobalAveragePooling2D(), L.Dense(3, activation="softmax")):
        tensor = layer(tensor)
    return keras.Model(backbone.inputs[0], tensor)


def cut(model: keras.Model) -> Split:
    return split(model, tuple(model.input_shape[1:3]), None)


@pytest.mark.parametrize(("name", "build", "side"), BUILT)
def test_a_backbone_of_keras_is_known_and_its_preprocessing_assumed(name, build, side):
    model = build(weights=None, include_top=False, input_shape=(side, side, 3))
    found = cut(headed(model))
    assert found.family == name
    # Those that expect raw pixels carry their preprocessing.
    assert found.has_own_preprocessing == (FAMILIES[name] == "none")
    assert found.preprocessing.name == FAMILIES[name]


@pytest.mark.parametrize("build", [A.EfficientNetV2B0, A.MobileNetV3Small, A.ConvNeXtTiny])
def test_without_the_layers_of_preprocessing_nothing_is_assumed_in_their_place(build):
    model = build(weights=None, include_top=False, input_shape=(32, 32, 3), include_preprocessing=False)
    found = cut(headed(model))
    assert (found.has_own_preprocessing, found.preprocessing.name) == (False, "none")
    assert found.family is not None


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("k3-concat-gap-gmp", "ResNet"),
        ("k3-sequential-augment", "ResNetV2"),
        ("k3-mobilenetv2-gap-keras", "MobileNetV2"),
        ("k3-vgg16-flatten", "VGG16"),
    ],
)
def test_channels_blocks_and_nesting_do_not_count(name, family):
    """These files have a few channels and a few blocks of those that Keras has."""
    assert cut(load_model(CASES / f"{name}.keras")).family == family


def other_names(model: keras.Model) -> keras.Model:
    for at, layer in enumerate(model.layers):
        layer.name = f"layer_{at}"
    return model


def conv(filters: int, kernel: int, strides: int = 1) -> list[L.Layer]:
    convolution = L.Conv2D(filters, kernel, strides, padding="same", use_bias=False)
    return [convolution, L.BatchNormalization(), L.ReLU()]


def through(tensor: keras.KerasTensor, *layers: L.Layer) -> keras.KerasTensor:
    for layer in layers:
        tensor = layer(tensor)
    return tensor


def resnet_of_torchvision() -> keras.Model:
    """The 3x3 convolution of a block makes the map smaller, not the 1x1 before it."""
    inputs = keras.Input((32, 32, 3))
    x = through(inputs, *conv(8, 7, 2), L.MaxPooling2D(3, 2, "same"))
    for _ in range(2):
        branch = through(x, *conv(4, 1), *conv(4, 3, 2), *conv(8, 1)[:2])
        x = L.ReLU()(L.Add()([branch, through(x, *conv(8, 1, 2)[:2])]))
    return keras.Model(inputs, x)


def normalized_stem() -> keras.Model:
    """Blocks of ResNetV2 behind a stem with batch normalization."""
    inputs = keras.Input((32, 32, 3))
    x = through(inputs, *conv(8, 7, 2), L.MaxPooling2D(3, 2, "same"))
    for _ in range(2):
        x = L.Add()([x, through(x, L.BatchNormalization(), L.ReLU(), *conv(4, 1), L.Conv2D(8, 1))])
    return keras.Model(inputs, through(x, L.BatchNormalization(), L.ReLU()))


def network_of_ones_own() -> keras.Model:
    layers = [
        layer for n in (16, 32, 64) for layer in (L.Conv2D(n, 3, activation="relu"), L.MaxPooling2D())
    ]
    return keras.Sequential([keras.Input((64, 64, 3)), *layers])


def normalized_vgg() -> keras.Model:
    blocks = [[*conv(4, 3), *conv(4, 3), L.MaxPooling2D()] for _ in range(3)]
    return keras.Sequential([keras.Input((32, 32, 3)), *(layer for block in blocks for layer in block)])


def separable_network() -> keras.Model:
    layers = (L.SeparableConv2D(8, 3, activation="relu"), L.SeparableConv2D(8, 3, activation="relu"))
    return keras.Sequential([keras.Input((32, 32, 3)), L.Conv2D(8, 3, 2), *layers])


@pytest.mark.parametrize(
    "build",
    [
        small_backbone,
        resnet_of_torchvision,
        normalized_stem,
        network_of_ones_own,
        normalized_vgg,
        separable_network,
    ],
)
def test_what_only_looks_alike_is_not_taken_for_one(build: Callable[[], keras.Model]):
    found = cut(headed(build()))
    assert (found.family, found.preprocessing.name) == (None, "caffe")


def test_names_do_not_count():
    model = A.ResNet50V2(weights=None, include_top=False, input_shape=(32, 32, 3))
    assert cut(headed(other_names(model))).family == "ResNetV2"


@pytest.mark.parametrize("extra", [[L.Conv2D(8, 3, padding="same", activation="relu")], conv(8, 3)])
@pytest.mark.parametrize("build", [A.ResNet50V2, A.MobileNetV2])
def test_layers_that_somebody_put_on_top_do_not_count(build, extra):
    model = build(weights=None, include_top=False, input_shape=(32, 32, 3))
    layers = [layer.__class__.from_config(layer.get_config()) for layer in extra]
    found = cut(headed(model, *layers))
    assert found.preprocessing.name == "tf"


@pytest.mark.parametrize("layer", ["conv4_block6_out", "conv3_block1_out"])
def test_a_part_of_a_backbone_is_known_too(layer):
    model = A.ResNet50(weights=None, include_top=False, input_shape=(32, 32, 3))
    part = keras.Model(model.inputs[0], model.get_layer(layer).output)
    assert cut(headed(part)).family == "ResNet"


def test_a_backbone_without_a_convolution_is_of_no_family():
    assert family_of([]) is None
    assert family_of([Step("relu")]) is None
