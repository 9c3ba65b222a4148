"""What a person brings as a model is told by its content, with the next step where it is none."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from service.errors import CommandError
from service.lab.models.archive import MEMBERS, packed
from service.lab.models.formats import recognise

CASES = Path(__file__).parents[1] / "cases" / "models"
KERAS, H5 = CASES / "k3-one-logit-keras.keras", CASES / "k1-old-flatten.h5"
CHECKPOINT = CASES / "k2-checkpoint-only"
MODEL = "model.save('NAME.keras')"


def told(path: Path, **options: bool) -> str:
    with pytest.raises(CommandError) as caught:
        recognise(path, **options)
    sentence = str(caught.value)
    assert len(sentence) <= 300
    assert len(sentence.splitlines()) == 1
    return sentence


@pytest.mark.parametrize(
    "name", ["model.keras", "MODEL.KERAS", "model.zip", "model", "model.h5", "a b.bin"]
)
@pytest.mark.parametrize(("source", "found"), [(KERAS, "keras"), (H5, "h5")])
def test_a_model_is_told_by_its_content_and_not_by_its_name(tmp_path, name, source, found):
    shutil.copyfile(source, tmp_path / name)
    assert recognise(tmp_path / name) == found


def test_hdf5_behind_a_block_of_the_users_is_hdf5(tmp_path):
    with h5py.File(tmp_path / "model", "w", userblock_size=1024) as file:
        file.attrs["model_config"] = "{}"
    assert recognise(tmp_path / "model") == "h5"


def test_what_tensorflow_2_12_called_keras_is_hdf5():
    assert recognise(CASES / "tf212-caffe-keras.keras") == "h5"


def test_folders_are_told_apart(tmp_path):
    with zipfile.ZipFile(KERAS) as archive:
        archive.extractall(tmp_path / "unpacked")
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "saved_model.pb").write_bytes(b"\x08\x01\x12")
    assert recognise(tmp_path / "unpacked") == "keras"
    assert recognise(tmp_path / "exported") == "saved_model"


@pytest.mark.parametrize(
    "path",
    [CHECKPOINT, *CHECKPOINT.iterdir(), CHECKPOINT / "k2-checkpoint-only.ckpt"],
    ids=lambda path: path.name,
)
def test_a_checkpoint_holds_weights_and_no_model(path):
    sentence = told(path)
    assert "holds weights and no model" in sentence
    assert MODEL in sentence
    assert "--architecture" not in sentence, "TensorFlow's checkpoints are not read with one"


@pytest.mark.parametrize(
    "path",
    [CASES / "k2-json-weights" / "k2-json-weights.h5", CASES / "k333-partly-frozen-parts.weights.h5"],
)
def test_weights_alone_are_told_as_such_and_taken_with_their_architecture(path):
    sentence = told(path)
    assert "holds weights and no model" in sentence
    assert "--architecture FILE.json" in sentence
    assert MODEL in sentence
    assert recognise(path, has_architecture=True) == "h5"


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return file.getvalue()


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


NO_MODELS = {
    "nothing": ("model.h5", b"", "empty"),
    "a TensorFlow Lite model": ("model.tflite", b"\x1c\0\0\0TFL3" + bytes(90), "TensorFlow Lite"),
    "an ONNX model": ("model.onnx", b"\x08\x08\x12\x07pytorch", "ONNX"),
    "a frozen graph": ("frozen.pb", b"\x0a\x1f\x0a\x05input\x12\x0bPlaceholder\xff", "frozen graph"),
    "the graph of a SavedModel alone": ("saved_model.pb", b"\x08\x01\x12\xff\xfe", "the folder"),
    "a pickle": ("model.pkl", b"\x80\x04\x95\x1d\0\0\0\0\0\0\0", "pickle"),
    "a PyTorch model": ("model.pt", zipped("archive/data.pkl", "archive/data/0"), "PyTorch"),
    "an old PyTorch model": ("model.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch"),
    "arrays": ("weights.npz", zipped("a.npy", "b.npy"), "arrays"),
    "an array": ("weights.npy", array(), "arrays"),
    "a zip of a SavedModel": ("model.zip", zipped("m/saved_model.pb", "m/variables/x"), "unpack"),
    "a zip of a model": ("model.zip", zipped("model.h5"), "unpack"),
    "a gzip file": ("model.h5.gz", b"\x1f\x8b\x08" + bytes(50), "unpack"),
    "a tar file": ("model.tar", bytes(257) + b"ustar\x0000" + bytes(300), "unpack"),
    "a web page": ("model.keras", b"<!DOCTYPE html><html>Sign in", "web page"),
    "a pointer to a large file": (
        "model.keras",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "git lfs pull",
    ),
    "an architecture": ("model.json", b'{"class_name": "Functional", "config": {}}', "without weights"),
    "another JSON": ("model.json", b"[1, 2]", "text file"),
    "a text": ("model.h5", "grüße\n".encode() * 900, "text file"),
    "a text called keras": ("model.keras", b"hello, I am a model\n", "no zip archive"),
    "a damaged HDF5 file": ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "damaged"),
    "noise": ("model.h5", bytes(range(256)) * 9, "no saved model that is known here"),
}


@pytest.mark.parametrize("what", NO_MODELS)
def test_what_is_no_model_is_told_by_what_it_is(tmp_path, what):
    name, content, words = NO_MODELS[what]
    (tmp_path / name).write_bytes(content)
    sentence = told(tmp_path / name)
    assert sentence.startswith(name)
    assert words in sentence


def test_a_folder_without_a_model_is_told(tmp_path):
    (tmp_path / "empty.keras").mkdir()
    assert "a folder without a model" in told(tmp_path / "empty.keras")
    (tmp_path / "empty.keras" / "config.json").touch()
    assert f"without {MEMBERS[1]}" in told(tmp_path / "empty.keras")


def test_what_is_not_there_is_told(tmp_path):
    assert "There is no file" in told(tmp_path / "nowhere.keras")


def test_a_long_name_leaves_the_sentence_short(tmp_path):
    path = tmp_path / ("n" * 250)
    path.write_bytes(b"text")
    assert "text file" in told(path)


def test_it_is_told_before_tensorflow_is_imported():
    code = (
        "import sys, pathlib, service.lab.models.formats as formats\n"
        f"print(formats.recognise(pathlib.Path({str(H5)!r})))\n"
        "print(sorted({'tensorflow', 'keras', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["h5", "[]"]


# unpacked folders


def test_equal_folders_are_packed_to_equal_bytes(tmp_path):
    with zipfile.ZipFile(KERAS) as archive:
        archive.extractall(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two" / "README.md").write_text("not of the model")
    for name in ("one", "two"):
        packed(tmp_path / name, tmp_path / f"{name}.keras")
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.keras") as made, zipfile.ZipFile(KERAS) as source:
        assert [one.filename for one in made.infolist()] == MEMBERS
        assert all(one.compress_type == zipfile.ZIP_STORED for one in made.infolist())
        assert all(made.read(name) == source.read(name) for name in MEMBERS)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_folder_with_a_link_out_of_it_is_not_packed(tmp_path, name):
    with zipfile.ZipFile(KERAS) as archive:
        archive.extractall(tmp_path / "folder")
    (tmp_path / "folder" / name).unlink()
    (tmp_path / "folder" / name).symlink_to("/etc/hostname")
    with pytest.raises(CommandError, match=f"{name} in folder is no file of its own"):
        packed(tmp_path / "folder", tmp_path / "made.keras")
    assert not (tmp_path / "made.keras").exists()


def test_a_folder_with_endless_text_is_not_packed(tmp_path):
    with zipfile.ZipFile(KERAS) as archive:
        archive.extractall(tmp_path / "folder")
    (tmp_path / "folder" / "config.json").write_text(json.dumps("x" * 2**24))
    with pytest.raises(CommandError, match="is larger than"):
        packed(tmp_path / "folder", tmp_path / "made.keras")
