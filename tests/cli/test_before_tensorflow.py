"""Mistakes in what a command was given are told without TensorFlow, which takes seconds to import."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fakes import publish, quantization
from PIL import Image
from stored import filled

from service.store.card import Source
from service.store.layout import CARD, Store

POISON = "raise AssertionError(f'{__name__} was imported')\n"
LABELS = "red\ngreen\nblue\n"

# Many lines in one process, because each would take most of a second to start.
EACH = """
import contextlib, io, json, sys, traceback
from service.cli.main import main
results = []
for words in json.load(sys.stdin):
    said, code = io.StringIO(), 1
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(words)
        except SystemExit as exc:
            code = exc.code or 0
        except BaseException:
            traceback.print_exc()
    results.append((said.getvalue(), code))
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Files to name on a command line, and modules that cannot be imported, in `poison`."""
    made = tmp_path_factory.mktemp("folder")
    (made / "poison").mkdir()
    for name in ("keras", "nncf", "openvino", "tensorflow"):
        (made / "poison" / f"{name}.py").write_text(POISON)
    (made / "labels.txt").write_text(LABELS)
    (made / "alone.txt").write_text("red")
    with zipfile.ZipFile(made / "model.keras", "w") as archive:
        archive.writestr("config.json", "not looked at")
    for label in ("pictures/red", "pictures/mauve", "one/red", "good/red", "good/green"):
        (made / label).mkdir(parents=True)
    (made / "photos").mkdir()
    for label, shade in (("red", 1), ("green", 2), ("single/red", 3), ("single/green", None)):
        place = made / label if "/" in label else made / "photos" / label
        place.mkdir(parents=True)
        (place / "notes.txt").write_text("no picture")
        if shade:
            Image.new("RGB", (9, 9), (shade, 0, 0)).save(place / "a.png")
    return made


@pytest.fixture(scope="module")
def store(folder) -> Store:
    """`gap` and `gap-int8`, both compiled, `broken`, and `flatten` on another backbone; all made up."""
    made = filled(folder)
    card = publish(made)
    publish(made, "gap-int8", quantization=quantization(), precision="int8")
    publish(made, "flatten", backbone=card.backbone.model_copy(update={"digest": "c" * 64}))
    saved = {"saved_model/saved_model.pb": "0" * 64}
    publish(made, "saved", source=Source(format="saved_model", files=saved))
    publish(made, "broken")
    (made.folder("broken", 1) / CARD).write_text("{")
    return made


@pytest.fixture(scope="module")
def told(store, folder) -> dict[str, tuple[str, int]]:
    """What each command line says and exits with, where TensorFlow, Keras and OpenVINO are poison."""
    lines = [*MISTAKES, *MISTAKES_WITHOUT_A_STORE, *FINE, *GO_ON]
    words = []
    for line in lines:
        root = folder / "new" if line in MISTAKES_WITHOUT_A_STORE else store.root
        words.append([word.replace("@", f"{folder}/") for word in line.split()])
        words[-1] += ["--store-dir", str(root)] if "--store-dir" not in line else []
    done = subprocess.run(
        [sys.executable, "-c", EACH],
        input=json.dumps(words),
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(folder / "poison"), *filter(None, sys.path)])}
        | {"RESNET_HEADS_CACHE_DIR": str(store.cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(lines, json.loads(done.stdout), strict=True))


IMPORT = "import @model.keras --labels @labels.txt --head"

MISTAKES = {
    f"{IMPORT} Gap": "'Gap' is not a head's name: at most 63 lower-case letters",
    f"{IMPORT} {'g' * 64}": "is not a head's name: at most 63",
    f"{IMPORT} {'g' * 5000}": "is not a head's name: at most 63",
    f"{IMPORT} ../gap": "is not a head's name",
    f"{IMPORT} gap --preprocessing tf --order bgr": "not both",
    f"{IMPORT} gap --size 0": "0 is not an input side",
    "import @nowhere.keras --labels @labels.txt --head gap": "There is no file",
    "import @model.keras --labels @nowhere.txt --head gap": "cannot be read: No such file",
    "import @model.keras --labels @alone.txt --head gap": "holds 1 labels",
    "import @model.keras --head gap": "Name the classes with --labels FILE, or with --check FOLDER",
    "import @model.keras --head gap --check @nowhere": "There is no folder",
    "import @model.keras --head gap --check @one": "holds 1 folders of pictures",
    "import @model.keras --head gap --check @good": "holds 0 pictures of 0 classes",
    f"{IMPORT} gap --check @single": "holds 1 pictures of 1 classes",
    f"{IMPORT} gap --check @pictures": "has no label 'mauve'",
    "check nothing --images @photos": "no head named 'nothing'",
    "check gap --images @nowhere": "There is no folder",
    "check gap --images @pictures": "has no label 'mauve'",
    "check gap --images @single": "holds 1 pictures of 1 classes",
    "check gap-int8 --images @photos": "quantize made gap-int8 of gap; check that one.",
    "train @nowhere --head gap": "There is no folder",
    "train @one --head gap": "holds 1 folders of pictures",
    "train @pictures --head gab": "'gab' is no pooling",
    "train @pictures --head Gap=gap": "'Gap' is not a head's name",
    "train @pictures --head gap --head gap": "Two heads are named gap",
    f"train @pictures --head {'g' * 58}=gap --fine-tune 1": "is too long for a head's name: at most 63",
    "train @pictures --head gap --weights @nowhere.h5": "neither imagenet, random, a head in",
    "train @pictures --head gap --weights broken": "card.json is not valid",
    "train @pictures --head gap --weights saved": "a SavedModel holds no Keras model to train",
    "compile saved --engine keras": "only the openvino engine runs",
    "quantize nothing --images @pictures": "no head named 'nothing'",
    "quantize gap --images @nowhere": "There is no folder",
    "quantize gap --images @pictures": "gap has no label 'mauve'",
    "quantize gap --images @pictures --max-drop 101": "not between 0 and 100",
    "quantize gap-int8 --images @pictures": "quantize made gap-int8 of gap; name that one",
    "quantize gap": "int8 is calibrated on pictures: say --images FOLDER",
    "quantize gap --to bf16 --images @nowhere": "There is no folder",
    "quantize gap flatten --images @pictures": "do not share a backbone",
    "compile nothing": "no head named 'nothing'; heads in the store: broken, flatten",
    "compile gap --version 7": "Head gap has no version 7; versions in the store: 1.",
    "compile broken": "card.json is not valid",
    "compile gap-int8 --engine keras": "only the openvino engine runs",
    "init --weights demo": "is not empty; init fills only an empty one",
}


MISTAKES_WITHOUT_A_STORE = {
    "init --weights @nowhere.h5": "There is no weights file",
    f"{IMPORT} Gap!": "'Gap!' is not a head's name",
}
FINE = ("compile gap", "compile gap-int8", "heads", "heads --json", "init --if-empty")
GO_ON = (
    f"{IMPORT} gap",
    "import @model.keras --head gap --check @photos",
    "check gap --images @photos",
    "train @good --head gap",
    "init --weights demo --store-dir @another",
    "compile flatten",
)


@pytest.mark.parametrize("line", [*MISTAKES, *MISTAKES_WITHOUT_A_STORE], ids=lambda line: line[:60])
def test_a_mistake_is_one_sentence_without_tensorflow(told, folder, line):
    said, code = told[line]
    assert code == 2, said
    (sentence,) = said.splitlines()
    assert sentence.startswith("resnet-heads: ")
    assert (MISTAKES | MISTAKES_WITHOUT_A_STORE)[line] in sentence
    assert len(sentence.replace(str(folder), "")) <= 300
    assert not (folder / "new").exists()


@pytest.mark.parametrize("line", FINE)
def test_what_needs_no_tensorflow_does_without(told, line):
    assert told[line] == ["", 0]


@pytest.mark.parametrize("line", GO_ON)
def test_what_is_right_goes_on_to_import_it(told, line):
    """So the poison works, and the tests above would have noticed."""
    said, code = told[line]
    assert code == 1
    assert re.search("AssertionError: (keras|openvino|tensorflow) was imported", said)


@pytest.mark.parametrize(
    "module",
    [
        "service.cli.main",
        "service.lab.checking.check",
        "service.lab.checks",
        "service.lab.labels",
        "service.lab.models.importing",
        "service.lab.models.recompile",
    ],
)
def test_what_is_imported_before_knows_no_tensorflow(module):
    code = f"import sys, {module}; print({{'tensorflow', 'keras', 'openvino'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
