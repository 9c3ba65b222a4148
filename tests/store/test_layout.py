import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from fakes import publish, publish_network
from process import MODULES
from stored import empty

from service.errors import VersionError
from service.store.layout import CARD, COMPILED, MANIFEST, MODEL, NotCompiled, Store, default_cache

DIGEST = "d" * 64
NOBODY = 65534


@pytest.fixture
def store(tmp_path):
    return empty(tmp_path)


def change(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))


def reason(store, head="gap", version=1):
    with pytest.raises(VersionError) as refused:
        store.read_card(head, version)
    return str(refused.value)


def test_a_store_that_is_not_there_has_no_heads(tmp_path):
    store = Store(tmp_path / "absent", tmp_path / "cache")
    assert store.heads() == []
    assert store.versions("gap") == []


def test_heads_are_sorted_and_versions_newest_first(store):
    for name in ("gap", "flatten", *["gap"] * 10):
        publish(store, name)
    assert store.heads() == ["flatten", "gap"]
    assert store.versions("gap") == [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_what_is_no_head_is_not_listed(store):
    publish(store)
    for name in (".compiled", ".benchmark", ".staging-x1", "Upper", "lost+found", "a b"):
        (store.root / name / "1").mkdir(parents=True)
    (store.root / "empty").mkdir()
    (store.root / "readme").write_text("not a folder")
    assert store.heads() == ["gap"]


def test_what_is_no_version_is_not_listed(store):
    publish(store)
    for name in ("0", "01", "-1", "1.5", "v2", "2 ", "٣", ".staging-2"):
        (store.root / "gap" / name).mkdir()
    (store.root / "gap" / "2").write_text("not a folder")
    assert store.versions("gap") == [1]


def test_a_published_card_can_be_read(store):
    assert publish(store) == store.read_card("gap", 1)


def test_a_version_without_a_card_says_so(store):
    publish(store)
    (store.folder("gap", 1) / CARD).unlink()
    assert reason(store) == "card.json cannot be read: No such file or directory."


def test_a_card_cut_short_says_so(store):
    publish(store)
    path = store.folder("gap", 1) / CARD
    path.write_bytes(path.read_bytes()[:-20])
    assert reason(store).startswith("card.json is not valid at its JSON: Invalid JSON")


def test_a_card_that_is_not_text_says_so(store):
    publish(store)
    (store.folder("gap", 1) / CARD).write_bytes(b"\xff\xfe\x00")
    assert reason(store).startswith("card.json is not valid at its JSON:")


def test_an_unknown_field_is_named(store):
    publish(store)
    change(store.folder("gap", 1) / CARD, b'"decode"', b'"blur": 1, "decode"')
    assert reason(store) == "card.json is not valid at input.blur: Extra inputs are not permitted."


def test_a_card_of_another_version_is_refused(store):
    publish(store)
    store.folder("gap", 1).rename(store.folder("gap", 7))
    assert reason(store, version=7) == "card.json belongs to gap/1."


def test_a_card_of_another_head_is_refused(store):
    publish(store)
    (store.root / "gap").rename(store.root / "flatten")
    assert reason(store, "flatten") == "card.json belongs to gap/1."


def test_a_model_file_that_changed_is_refused(store):
    publish(store)
    change(store.folder("gap", 1) / MODEL, b"model", b"Model")
    assert reason(store) == "model.keras is damaged: its sha256 is not the recorded one."


def test_a_missing_model_file_is_refused(store):
    publish(store)
    (store.folder("gap", 1) / MODEL).unlink()
    assert reason(store) == "model.keras cannot be read: No such file or directory."


def test_compiled_files_are_found_where_they_were_published(store):
    assert publish_network(store, DIGEST) == store.root / COMPILED / DIGEST / "openvino"


def test_what_was_never_compiled_says_so(store):
    publish_network(store, DIGEST)
    with pytest.raises(NotCompiled, match=r"^it is not compiled for keras$"):
        store.compiled(DIGEST, "keras")
    with pytest.raises(NotCompiled, match=r"^it is not compiled for openvino$"):
        store.compiled("0" * 64, "openvino")


def damage_file(folder):
    change(folder / "network.bin", b"net", b"nut")


def remove_file(folder):
    (folder / "network.xml").unlink()


def remove_manifest(folder):
    (folder / MANIFEST).unlink()


def damage_manifest(folder):
    change(folder / MANIFEST, b"{", b"")


DAMAGES = {
    damage_file: "network.bin is damaged: its sha256 is not the recorded one.",
    remove_file: "network.xml cannot be read: No such file or directory.",
    remove_manifest: "manifest.json: No such file or directory",
    damage_manifest: "validation error",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_compiled_files_count_as_not_compiled(store, damage):
    damage(publish_network(store, DIGEST))
    wanted = rf"^its compiled files for openvino are damaged \(.*{re.escape(DAMAGES[damage])}"
    with pytest.raises(NotCompiled, match=wanted):
        store.compiled(DIGEST, "openvino")


@pytest.mark.parametrize("damage", DAMAGES)
def test_publishing_again_replaces_damaged_compiled_files(store, damage):
    damage(publish_network(store, DIGEST))
    folder = publish_network(store, DIGEST, b"another network")
    assert (folder / "network.bin").read_bytes() == b"another network"
    assert [path.name for path in (store.root / COMPILED).iterdir()] == [DIGEST]


def test_the_cache_serves_where_the_files_in_the_store_are_damaged(store):
    in_cache = publish_network(Store(store.cache, store.cache), DIGEST)
    damage_file(publish_network(Store(store.root, store.root), DIGEST))
    assert store.compiled(DIGEST, "openvino") == in_cache


@pytest.fixture
def open_folder():
    """A folder that any user may enter; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


def as_ordinary_user(code):
    """Runs `code` in a process that root's rights do not help, with fakes and Store imported."""
    rights = f"import os\nif os.getuid() == 0: os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    child = subprocess.run(
        [sys.executable, "-c", f"import fakes\nfrom service.store.layout import *\n{rights}{code}"],
        env=os.environ | MODULES,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


def test_where_the_store_is_read_only_compiled_files_go_to_the_cache(open_folder):
    root, cache = open_folder / "store", open_folder / "cache"
    publish(Store(root, cache))
    root.chmod(0o555)
    as_ordinary_user(
        f"store = Store(Path('{root}'), Path('{cache}'))\n"
        f"store.read_card('gap', 1)\n"
        f"assert fakes.publish_network(store, '{DIGEST}').is_relative_to('{cache}')\n"
    )
    assert Store(root, cache).compiled(DIGEST, "openvino") == cache / COMPILED / DIGEST / "openvino"
    assert [path.name for path in root.iterdir()] == ["gap"]


def test_the_cache_folder_follows_the_xdg_convention(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "resnet-heads"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "resnet-heads"
