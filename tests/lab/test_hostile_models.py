"""A stranger's model file runs nothing, writes nowhere, and takes no more memory than it is large."""

import io
import json
import time
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras_models import LABELS, headed, save, softmax
from process import peak_mb

from service.errors import CommandError
from service.lab.labels import MAX_LABEL_BYTES
from service.lab.models.archive import MEMBERS, check_archive
from service.lab.models.importing import ImportOptions, import_model
from service.store.layout import Store

CONFIG, METADATA, WEIGHTS = MEMBERS
L = keras.layers
MOST_MB, MOST_S = 500, 30


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, bytes]:
    """The members of a model that can be imported."""
    file = save(headed(L.GlobalAveragePooling2D(), softmax()), tmp_path_factory.mktemp("good"))
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def place(tmp_path):
    """A folder with labels, an empty store, and a module whose import leaves a trace."""
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    (tmp_path / "trap.py").write_text(
        "import pathlib; pathlib.Path(__file__).with_name('sprung').touch()"
    )
    (tmp_path / "store").mkdir()
    return tmp_path


def write(place, members, packing=zipfile.ZIP_STORED):
    with zipfile.ZipFile(place / "model.keras", "w", packing) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return place / "model.keras"


@pytest.fixture
def refused(place, snapshot):
    """Imports a file of these members: the sentence about it, and that nothing else came of it."""

    def refused(members, packing=zipfile.ZIP_STORED):
        file = write(place, members, packing)
        before, began_s, before_mb = snapshot(place), time.process_time(), peak_mb()
        with pytest.raises(CommandError) as caught:
            import_model(
                Store(place / "store", place / "cache"),
                file,
                ImportOptions("mine", place / "labels.txt"),
            )
        assert snapshot(place) == before
        assert time.process_time() - began_s < MOST_S
        assert peak_mb() - before_mb < MOST_MB
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    return refused


def first_layer(good, **changes) -> list[tuple[str, bytes]]:
    """The good model, the class of whose second layer is something else."""
    config = json.loads(good[CONFIG])
    config["config"]["layers"][1] |= changes
    return list((good | {CONFIG: json.dumps(config).encode()}).items())


@pytest.mark.parametrize(
    "path",
    [
        {"module": "trap", "class_name": "Trap", "registered_name": None},
        {"module": "trap", "class_name": "Trap", "registered_name": "tests>Trap"},
        {"module": "os", "class_name": "system", "registered_name": None},
        {"module": "builtins", "class_name": "eval", "registered_name": None},
        {"module": "keras.utils", "class_name": "get_file", "registered_name": None},
    ],
    ids=lambda path: f"{path['module']}.{path['class_name']} {path['registered_name'] or ''}",
)
def test_a_class_from_anywhere_is_not_imported(good, refused, place, monkeypatch, path):
    monkeypatch.syspath_prepend(place)
    refused(first_layer(good, **path))
    assert not (place / "sprung").exists()


def test_the_trap_springs_where_somebody_imports_it(place, monkeypatch):
    monkeypatch.syspath_prepend(place)
    __import__("trap")
    assert (place / "sprung").exists()


def test_a_lambda_does_not_run(refused, place):
    trace = str(place / "sprung")
    model = keras.Sequential(
        [keras.Input((64, 64, 3)), L.Lambda(lambda x: Path(trace).touch() or x), L.Flatten(), L.Dense(5)]
    )
    Path(trace).unlink()  # building the model ran it
    with zipfile.ZipFile(save(model, place)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    assert "Lambda" in refused(members)
    assert not Path(trace).exists()


def link(name, target):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry, target


@pytest.mark.parametrize(
    "name",
    [
        "../sprung",
        "/sprung",
        "assets/../../sprung",
        "assets/vocabulary.txt",
        "C:\\sprung",
        "config.json/x",
    ],
)
def test_a_member_of_another_name_is_refused(good, refused, name):
    assert "no Keras model needs" in refused([*good.items(), (name, b"written")])


def test_a_link_out_of_the_archive_is_refused(good, refused):
    assert "no Keras model needs" in refused([*good.items(), link("assets", b"/etc")])


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(good, refused):
    assert "once" in refused([*good.items(), (CONFIG, b"{}")])


@pytest.mark.parametrize("name", MEMBERS)
def test_a_zip_bomb_is_refused_before_it_is_unpacked(good, refused, name):
    told = refused([*(good | {name: bytes(3 * 10**8)}).items()], zipfile.ZIP_DEFLATED)
    assert told == f"{name} in model.keras would unpack to 300000000 bytes."


@pytest.mark.parametrize(
    "packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_that_was_damaged_is_refused(place, packing, name):
    content = np.random.default_rng(1).bytes(10_000)
    file = write(place, dict.fromkeys(MEMBERS, content).items(), packing)
    check_archive(file)
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo(name)
    content = bytearray(file.read_bytes())
    content[member.header_offset + 30 + len(name) + member.compress_size // 2] ^= 255
    file.write_bytes(content)
    with pytest.raises(CommandError, match=r"^model.keras cannot be loaded: \S"):
        check_archive(file)


def test_a_file_that_asks_for_a_password_is_refused(good, place):
    file = write(place, good.items())
    content = file.read_bytes()
    for header, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the bit for it, in the flags
        start = content.index(header) + at
        content = content[:start] + bytes([content[start] | 1]) + content[start + 1 :]
    file.write_bytes(content)
    with pytest.raises(CommandError, match=r"cannot be loaded: .*password"):
        check_archive(file)


def weights(good, change) -> list[tuple[str, bytes]]:
    """The good model with other weights in the first kernel."""
    file = io.BytesIO(good[WEIGHTS])
    with h5py.File(file, "r+") as opened:
        names: list[str] = []
        opened.visititems(
            lambda name, one: names.append(name) if isinstance(one, h5py.Dataset) else None
        )
        change(opened, names[0])
    return list((good | {WEIGHTS: file.getvalue()}).items())


def huge(opened, name):
    """Four terabytes, none of which is there."""
    del opened[name]
    opened.create_dataset(name, (10**6, 10**6), "f4", chunks=(1000, 1000), compression="gzip")


def outside(opened, name):
    """Weights that are another file of this machine."""
    shape = opened[name].shape
    del opened[name]
    opened.create_dataset(name, shape, "f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def linked(opened, name):
    del opened[name]
    opened[name] = h5py.ExternalLink("/etc/hostname", "/x")


def virtual(opened, name):
    layout = h5py.VirtualLayout(opened[name].shape, "f4")
    layout[...] = h5py.VirtualSource("/etc/hostname", "x", opened[name].shape)
    del opened[name]
    opened.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("change", [huge, outside, linked, virtual])
def test_weights_that_lie_about_their_size_or_lie_elsewhere_are_refused(good, refused, change):
    assert "model.keras cannot be loaded" in refused(weights(good, change))


@pytest.mark.parametrize("make", ["sparse", "endless"])
def test_a_label_file_without_end_is_not_read_to_its_end(place, good, make):
    labels = place / "labels.txt"
    labels.unlink()
    if make == "sparse":
        with labels.open("wb") as file:
            file.truncate(10**9)
    else:
        labels.symlink_to("/dev/zero")
    before = peak_mb()
    with pytest.raises(CommandError, match=f"larger than {MAX_LABEL_BYTES} bytes"):
        import_model(
            Store(place / "store", place / "cache"),
            write(place, good.items()),
            ImportOptions("mine", labels),
        )
    assert peak_mb() - before < MOST_MB


def test_the_command_says_so_in_one_line_and_exits_with_2(good, place, snapshot, run_here):
    file = write(place, [*good.items(), ("../sprung", b"written")])
    before = snapshot(place)
    flags = ("--labels", str(place / "labels.txt"), "--store-dir", str(place / "store"))
    done = run_here("import", str(file), "--head", "mine", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "resnet-heads: model.keras holds '../sprung', which no Keras model needs."
    )
    assert snapshot(place) == before


def test_the_good_model_is_imported(good, place):
    """Else the refusals above could come from something else."""
    file = write(place, good.items())
    card = import_model(
        Store(place / "store", place / "cache"), file, ImportOptions("mine", place / "labels.txt")
    )
    assert np.isclose(sum(card.golden.probabilities), 1)


def test_a_file_that_cannot_be_read_is_not_called_damaged(place):
    with pytest.raises(CommandError, match=r"^store cannot be read: Is a directory\.$"):
        check_archive(place / "store")
