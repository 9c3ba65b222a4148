"""A stranger's HDF5 and configuration reach nothing but their file, and take no more than it holds."""

import json
import os
import resource
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from service.errors import CommandError
from service.lab.models.reading import load
from service.lab.models.saved import Unloadable
from service.lab.models.saved.configuration import parsed

CASES = Path(__file__).parents[1] / "cases" / "models"
H5 = CASES / "k2-tutorial-preprocess-inside-h5.h5"
ARCHIVES = {
    "Keras 2": CASES / "tf215-slashes-keras.keras",
    "Keras 3": CASES / "k3-one-logit-keras.keras",
}
WEIGHTS = "model.weights.h5"
MOST_MB, MOST_S = 500, 20
Change = Callable[[h5py.File, str], None]


def peak() -> float:
    """The most memory that this process had, in millions of bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@pytest.fixture
def refused(snapshot):
    """The sentence about a file, and that nothing else came of it."""

    def refused(path: Path) -> str:
        before, began_s, peak_mb = snapshot(path.parent), time.process_time(), peak()
        with pytest.raises(CommandError) as caught:
            load(path)
        assert time.process_time() - began_s < MOST_S
        assert peak() - peak_mb < MOST_MB
        assert snapshot(path.parent) == before
        sentence = str(caught.value)
        assert len(sentence) <= 300
        assert len(sentence.splitlines()) == 1
        return sentence

    return refused


@pytest.fixture
def in_h5(tmp_path):
    """An .h5 file, after a change of it; the change is told the path of one of its weights."""

    def in_h5(change: Change) -> Path:
        path = tmp_path / "model.h5"
        shutil.copyfile(H5, path)
        with h5py.File(path, "r+") as file:
            change(file, first_weights(file["model_weights"]))
        return path

    return in_h5


@pytest.fixture
def in_archive(tmp_path):
    """A .keras file, after a change of the weights in it."""

    def in_archive(source: Path, change: Change) -> Path:
        parts = tmp_path / "parts"
        with zipfile.ZipFile(source) as archive:
            archive.extractall(parts)
        with h5py.File(parts / WEIGHTS, "r+") as file:
            change(file, first_weights(file))
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            for part in sorted(parts.iterdir()):
                archive.write(part, part.name)
        shutil.rmtree(parts)
        return tmp_path / "model.keras"

    return in_archive


def first_weights(group: h5py.Group) -> str:
    names: list[str] = []
    group.visititems(lambda _, one: names.append(one.name) if isinstance(one, h5py.Dataset) else None)
    return next(name for name in names if "optimizer" not in name)


def replaced(file: h5py.File, name: str, **how: object) -> None:
    shape, group = file[name].shape, file[name].parent
    del file[name]
    group.create_dataset(name.rpartition("/")[2], **({"shape": shape, "dtype": "f4"} | how))


# what does not lie in the file


def storage_outside(file, name):
    replaced(file, name, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def virtual(file, name):
    layout = h5py.VirtualLayout(file[name].shape, "f4")
    layout[...] = h5py.VirtualSource("/etc/hostname", "x", file[name].shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def linked_outside(file, name):
    del file[name]
    file[name] = h5py.ExternalLink("/etc/hostname", "/x")


def linked_softly(file, name):
    file["elsewhere"] = file[name][()]
    del file[name]
    file[name] = h5py.SoftLink("/elsewhere")


def group_outside(file, name):
    parent = file[name].parent.name
    del file[parent]
    file[parent] = h5py.ExternalLink("/etc/hostname", "/x")


# what is larger than it looks


def never_written(file, name):
    """Four terabytes, none of which is there."""
    replaced(file, name, shape=(10**6, 10**6), chunks=(1000, 1000), compression="gzip")


def never_written_in_one(file, name):
    replaced(file, name, shape=(10**6, 10**6))


def bomb(file, name):
    replaced(
        file,
        name,
        shape=(10**8,),
        chunks=(10**6,),
        compression="gzip",
        compression_opts=9,
        data=np.zeros(10**8, "f4"),
    )


def many_bombs(file, _):
    """Each of them is modest."""
    for at in range(300):
        file.create_dataset(f"bombs/{at}", (10**6,), "f4", chunks=(10**6,), compression="gzip")


def deep(file, _):
    group = file
    for _ in range(2000):
        group = group.create_group("g")


def loop(file, name):
    file[name].parent["again"] = file["/"]


# what is no weight


def objects(file, name):
    replaced(file, name, shape=(3,), dtype=h5py.string_dtype())


def references(file, name):
    replaced(file, name, shape=(3,), dtype=h5py.ref_dtype)


def lists(file, name):
    replaced(file, name, shape=(3,), dtype=h5py.vlen_dtype(np.float32))


def compounds(file, name):
    replaced(file, name, shape=(3,), dtype=np.dtype([("a", "f4"), ("b", "f4")]))


def unknown_filter(file, name):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((10,))
    properties.set_filter(305, h5py.h5z.FLAG_OPTIONAL, ())
    del file[name]
    space = h5py.h5s.create_simple((10,))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, properties)


def named_type(file, name):
    del file[name]
    file[name] = np.dtype("f4")


ATTACKS: dict[Change, str] = {
    storage_outside: "lie in another file",
    virtual: "lie in another file",
    linked_outside: "a link to elsewhere",
    linked_softly: "a link to elsewhere",
    group_outside: "a link to elsewhere",
    never_written: "would unpack to",
    never_written_in_one: "would unpack to",
    bomb: "would unpack to",
    many_bombs: "would unpack to",
    deep: "levels deep",
    loop: "a loop",
    objects: "no numbers",
    references: "no numbers",
    lists: "no numbers",
    compounds: "no numbers",
    unknown_filter: "packed in a way",
    named_type: "neither weights nor a group",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_h5_file_that_is_more_than_it_holds_is_refused(attack, in_h5, refused):
    assert ATTACKS[attack] in refused(in_h5(attack))


@pytest.mark.parametrize("keras_version", ARCHIVES)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_so_are_the_weights_in_an_archive(attack, keras_version, in_archive, refused):
    assert ATTACKS[attack] in refused(in_archive(ARCHIVES[keras_version], attack))


def test_a_file_that_was_packed_with_gzip_is_read(in_h5):
    def packed(file, name):
        replaced(file, name, data=file[name][()], compression="gzip", shuffle=True, fletcher32=True)

    load(in_h5(packed))


# attributes


def with_attribute(name: str, value: object, **how: object) -> Change:
    def change(file: h5py.File, _: str) -> None:
        file.attrs.create(name, value, **how)

    return change


ODD_ATTRIBUTES = {
    "a text without end": (with_attribute("model_config", '{"a": "' + "x" * 2**24), "larger than"),
    "many texts": (with_attribute("model_config", ["x"] * 1000), "attributes"),
    "a number": (with_attribute("model_config", 5), "that of no model"),
    "numbers": (with_attribute("model_config", np.zeros(1000)), "attributes"),
    "nothing": (with_attribute("model_config", h5py.Empty("S1")), "JSON"),
    "bytes that are no UTF-8": (with_attribute("model_config", np.bytes_(b"\xff\xfe{}")), "JSON"),
    "a version that is a list": (with_attribute("keras_version", np.arange(8000)), "attributes"),
}


@pytest.mark.parametrize("what", ODD_ATTRIBUTES)
def test_odd_attributes_are_refused(what, in_h5, refused):
    change, words = ODD_ATTRIBUTES[what]
    assert words in refused(in_h5(change))


def test_an_attribute_of_eighty_megabytes_is_not_read(tmp_path, refused):
    with h5py.File(tmp_path / "model.h5", "w", libver="latest") as file:
        file.attrs["model_config"] = "{}"
        file.attrs["keras_version"] = np.zeros(10**7)
    assert "attributes" in refused(tmp_path / "model.h5")


@pytest.mark.parametrize("value", [np.zeros(8000), ["x"] * 4000, "conv", h5py.Empty("S1"), b"\xff"])
def test_odd_names_of_weights_are_refused(value, in_h5, refused):
    def change(file, _):
        group = file["model_weights"]
        del group.attrs["layer_names"]
        group.attrs["layer_names"] = value

    assert "cannot be loaded" in refused(in_h5(change))


def test_names_with_a_way_out_of_their_group_are_refused(in_h5, refused):
    def change(file, _):
        names = file["model_weights/dense"].attrs["weight_names"]
        file["model_weights/dense"].attrs["weight_names"] = ["../../x", *names[1:]]

    assert "the weights in it are not those of its layers" in refused(in_h5(change))


# configurations


def configured(tmp_path: Path, config: object, source: Path = ARCHIVES["Keras 3"]) -> Path:
    """The case with another configuration; a callable changes its own."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if callable(config):
        own = json.loads(members["config.json"])
        config(own)
        config = own
    text = config if isinstance(config, str) else json.dumps(config)
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in (members | {"config.json": text.encode()}).items():
            archive.writestr(name, content)
    return tmp_path / "model.keras"


def layer_of(config: dict, class_name: str) -> dict:
    return next(one for one in config["config"]["layers"] if one["class_name"] == class_name)


def nested(levels: int, calls: int = 1) -> dict:
    """A model around a model around a model ..., each of which is called so often by the next."""
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))
    for _ in range(levels - 1):
        x = inputs = keras.Input((4, 4, 3))
        for _ in range(calls):
            x = model(x)
        model = keras.Model(inputs, x)
    return keras.saving.serialize_keras_object(model)


def test_models_nested_ten_levels_deep_are_refused(tmp_path, refused):
    sentence = refused(configured(tmp_path, nested(10)))
    assert "models are nested in it more than 8 levels deep" in sentence


def test_nested_models_that_multiply_their_calls_are_refused(tmp_path, refused):
    sentence = refused(configured(tmp_path, nested(7, calls=5)))
    assert "it calls more than 10000 layers" in sentence


def test_models_nested_as_people_nest_them_are_read(tmp_path):
    keras.models.model_from_json(json.dumps(nested(4, calls=2))).save(tmp_path / "model.keras")
    assert load(tmp_path / "model.keras").model.count_params() == 12


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000 + "]" * 5000,
        '{"class_name": "Functional", "config": ' + "[" * 500 + "]" * 500 + "}",
        '{"class_name": "Functional", "config": ' + '{"a": ' * 120 + "1" + "}" * 121,
        '{"class_name": "Functional", "config": ' + "1" * 10**5 + "}",
        '{"class_name": ["Functional"], "config": {}}',
        '{"class_name": "Functional", "config": {"layers": {}, "input_layers": [], "output_layers": 1}}',
        '{"class_name": "Model", "config": {"layers": [1], "input_layers": [], "output_layers": []}}',
        '{"class_name": "Sequential", "config": {"name": "s", "layers": [[]]}}',
        '{"class_name": "Sequential", "config": 7}',
        '"Functional"',
        "null",
    ],
    ids=range(11),
)
@pytest.mark.parametrize("keras_version", ARCHIVES)
def test_configurations_that_keras_does_not_write_are_refused(tmp_path, text, keras_version, refused):
    assert "cannot be loaded" in refused(configured(tmp_path, text, ARCHIVES[keras_version]))


FUNCTION = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
CLASS = {
    "module": "os",
    "class_name": "system",
    "config": {"command": "touch sprung"},
    "registered_name": None,
}


@pytest.mark.parametrize("value", [FUNCTION, CLASS], ids=["function", "class"])
@pytest.mark.parametrize("setting", ["activation", "kernel_initializer", "kernel_regularizer", "dtype"])
@pytest.mark.parametrize("keras_version", ARCHIVES)
def test_a_configuration_that_names_a_function_calls_nothing(
    tmp_path, keras_version, setting, value, monkeypatch
):
    called: list[object] = []
    monkeypatch.setattr(os, "system", called.append)
    monkeypatch.chdir(tmp_path)

    def change(config):
        layer_of(config, "Dense")["config"][setting] = value

    path = configured(tmp_path, change, ARCHIVES[keras_version])
    if keras_version == "Keras 2" and setting.startswith("kernel"):
        load(path)  # What only training needs is left out of old files.
    else:
        with pytest.raises(CommandError, match="cannot be loaded"):
            load(path)
    assert called == []
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("class_name", "config"),
    [
        ("TFSMLayer", {"filepath": "/etc"}),
        ("StringLookup", {"vocabulary": "/etc/passwd"}),
        ("TextVectorization", {"vocabulary": "/etc/passwd"}),
        ("TorchModuleWrapper", {"module": "gAR9lC4="}),
    ],
)
@pytest.mark.parametrize("place", ["layer", "activation", "kernel_initializer"])
def test_layers_that_reach_out_of_the_model_are_refused(tmp_path, class_name, config, place, refused):
    made = {
        "module": "keras.layers",
        "class_name": class_name,
        "config": config,
        "registered_name": None,
    }

    def change(saved):
        if place == "layer":
            layer_of(saved, "Dense").update(made)
        else:
            layer_of(saved, "Dense")["config"][place] = made

    sentence = refused(configured(tmp_path, change))
    assert f"it holds {class_name}, which reads files or runs code outside of the model" in sentence


@pytest.mark.parametrize("units", [10**6, 10**12, 10**30])
@pytest.mark.parametrize("keras_version", ARCHIVES)
def test_layers_larger_than_the_weights_in_the_file_are_not_made(
    tmp_path, keras_version, units, refused
):
    def change(config):
        layer_of(config, "Dense")["config"]["units"] = units

    sentence = refused(configured(tmp_path, change, ARCHIVES[keras_version]))
    assert "cannot be loaded" in sentence
    if units < 10**30:  # which no shape holds
        assert "the weights in it are not those of its layers" in sentence
    # Nothing is left to be made with the next model.
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    with keras.StatelessScope():
        pass
    assert peak() < 10**4


def test_an_input_as_large_as_a_disk_makes_no_weights(tmp_path, refused):
    def change(config):
        config["config"]["layers"].insert(
            1, {"class_name": "Normalization", "config": {"name": "n", "axis": [1, 2, 3]}}
        )
        config["config"]["layers"][0]["config"]["batch_shape"] = [None, 10**5, 10**5, 3]

    assert "cannot be loaded" in refused(configured(tmp_path, change))


def test_a_deep_configuration_is_refused_before_it_is_walked():
    with pytest.raises(Unloadable, match="levels deep"):
        parsed('{"class_name": "a", "config": ' + "[" * 101 + "]" * 101 + "}")
