"""`remove` takes versions out whole, with the compiled files that nobody else uses, no more."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from fakes import card, publish, publish_network, quantization, structure
from stored import BACKBONE, HEAD, empty, load

from service.errors import CommandError, VersionError
from service.store.layout import CARD, COMPILED, MODEL, Store
from service.store.publish import publish_version, staged
from service.store.removal import REMOVING, remove

NOBODY = 65534


@pytest.fixture
def store(tmp_path):
    return empty(tmp_path)


def publish_whole(store, name="gap", sign="e", **changes):
    """A version, and the compiled files of its backbone and of its head, whose digest is of `sign`."""
    publish_network(store, BACKBONE)
    publish_network(store, sign * 64)
    return publish(store, name, structure=structure(digest=sign * 64), **changes)


def compiled(store):
    """The first signs of the digests that are compiled."""
    return {path.name[0] for path in (store.root / COMPILED).iterdir()}


def left(store):
    """What is in the root of the store, hidden folders too."""
    return {path.name for path in store.root.iterdir()}


def test_a_version_is_removed_and_the_others_stay(store):
    for _ in range(3):
        publish_whole(store)
    removal = remove(store, "gap", [2])
    assert removal.versions == (2,)
    assert removal.notes == ()
    assert store.versions("gap") == [3, 1]
    assert compiled(store) == {"b", "e"}
    assert left(store) == {"gap", COMPILED}


def test_a_head_is_removed_with_its_folder_and_all_that_is_compiled_of_it_alone(store):
    publish_whole(store, "flatten", "f")
    for _ in range(2):
        publish_whole(store, "gap", "e")
    assert remove(store, "gap", store.versions("gap")).versions == (2, 1)
    assert left(store) == {"flatten", COMPILED}
    assert compiled(store) == {"b", "f"}, "the backbone is shared"
    assert store.compiled(BACKBONE, "openvino")


def test_it_says_how_many_bytes_went(store):
    publish_whole(store)
    publish_whole(store, "flatten", "f", model=b"m" * 12_345)
    folder = store.folder("flatten", 1)
    of_version = sum(path.stat().st_size for path in folder.iterdir())
    of_compiled = sum(
        path.stat().st_size for path in (store.root / COMPILED / ("f" * 64)).glob("openvino/*")
    )
    assert of_version > 12_345
    removal = remove(store, "flatten", [1])
    assert (removal.version_bytes, removal.compiled_bytes) == (of_version, of_compiled)


@pytest.mark.parametrize("gone", ["gap", "gap-int8"])
def test_an_int8_head_shares_the_layers_of_its_float32_head(store, gone):
    """Its backbone lies in its own folder, and its head is that of the float32 head."""
    publish_whole(store)
    int8 = card().backbone.model_copy(update={"digest": "8" * 64})
    publish(store, "gap-int8", quantization=quantization(), backbone=int8)
    remove(store, gone, [1])
    assert compiled(store) == ({"e"} if gone == "gap" else {"b", "e"})


def test_what_a_damaged_or_newer_card_names_stays(store):
    publish_whole(store)
    publish_whole(store, "newer")
    path = store.folder("newer", 1) / CARD
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 99'))
    with pytest.raises(VersionError):
        store.card("newer", 1)
    remove(store, "gap", [1])
    assert compiled(store) == {"b", "e"}


def test_a_version_without_a_card_can_be_removed(store):
    publish_whole(store)
    publish_whole(store)
    (store.folder("gap", 2) / CARD).unlink()
    assert remove(store, "gap", [2]).versions == (2,)
    assert compiled(store) == {"b", "e"}


@pytest.fixture
def open_store():
    """A store that any user may enter; pytest's own folders are private."""
    with tempfile.TemporaryDirectory() as name:
        made = Store(Path(name) / "store", Path(name) / "cache")
        made.root.mkdir()
        for folder in (Path(name), made.root):
            folder.chmod(0o777)
        yield made


def removed_by_ordinary_user(store, head, version):
    """The notes, or the refusal, of a removal in a process that root's rights do not help."""
    code = (
        "import os\nfrom pathlib import Path\nfrom service.store.removal import *\n"
        f"if os.getuid() == 0: os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        f"store = Store(Path('{store.root}'), Path('{store.cache}'))\n"
        f"try: print(*remove(store, '{head}', [{version}]).notes)\n"
        "except CommandError as exc: print(exc)"
    )
    modules = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | modules,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_compiled_files_stay_where_a_card_cannot_be_read(open_store):
    publish_whole(open_store, "flatten", "f")
    publish_whole(open_store)
    for path in open_store.root.rglob("*"):
        path.chmod(0o777)
    (open_store.folder("flatten", 1) / CARD).chmod(0)
    told = removed_by_ordinary_user(open_store, "gap", 1)
    assert told.startswith("Compiled files stay: ")
    assert told.endswith("card.json: Permission denied.")
    assert open_store.heads() == ["flatten"]
    assert compiled(open_store) == {"b", "e", "f"}


def test_a_read_only_store_is_told_in_a_sentence(open_store):
    publish_whole(open_store)
    open_store.root.chmod(0o555)
    told = removed_by_ordinary_user(open_store, "gap", 1)
    assert told == f"The store {open_store.root} is read-only; remove gap where it can be written."
    assert open_store.read_card("gap", 1)


def test_a_version_that_may_not_be_moved_is_told_in_a_sentence(open_store):
    publish_whole(open_store)
    (open_store.root / "gap").chmod(0o555)
    told = removed_by_ordinary_user(open_store, "gap", 1)
    assert told == "gap version 1 cannot be removed: Permission denied."
    assert open_store.read_card("gap", 1)


def test_compiled_files_of_all_engines_go(store):
    publish_whole(store)
    publish_whole(store, "flatten", "f")
    publish_network(store, "f" * 64, engine="keras")
    remove(store, "flatten", [1])
    assert compiled(store) == {"b", "e"}


def test_compiled_files_in_the_cache_stay_because_other_stores_use_them(store):
    publish_whole(store)
    in_cache = publish_network(Store(store.cache, store.cache), "9" * 64)
    publish(store, "flatten", structure=structure(digest="9" * 64))
    remove(store, "flatten", [1])
    assert in_cache.is_dir()


def test_compiled_files_stay_while_something_is_published(store):
    """It has no card yet, and may have found them there."""
    publish_whole(store)
    with staged(store.root) as folder:
        removal = remove(store, "gap", [1])
        (folder / MODEL).write_bytes(b"a model")
        publish_version(store, folder, card("gap"))
    assert "something is being published in .staging-" in removal.notes[0]
    assert compiled(store) == {"b", "e"}
    assert store.compiled(HEAD, "openvino")


def test_the_last_head_of_a_store_is_told_to_serve_on(store):
    publish_whole(store)
    (note,) = remove(store, "gap", [1]).notes
    assert "The store is empty now" in note
    assert left(store) == {COMPILED}


def test_what_is_no_version_is_left_alone(store):
    publish_whole(store, "flatten", "f")
    publish_whole(store)
    (store.root / "gap" / "notes.txt").write_text("somebody's")
    (note,) = remove(store, "gap", [1]).notes
    assert note == f"{store.root / 'gap'} stays: it holds something else than versions."
    assert (store.root / "gap" / "notes.txt").read_text() == "somebody's"
    assert store.heads() == ["flatten"]


def test_a_version_that_is_not_there_is_refused_and_nothing_is_touched(store):
    publish_whole(store)
    with pytest.raises(CommandError, match="gap version 7 cannot be removed: No such file"):
        remove(store, "gap", [7])
    assert store.versions("gap") == [1]
    assert left(store) == {"gap", COMPILED}


def test_a_link_is_not_followed(store, tmp_path):
    publish_whole(store)
    shutil.copytree(store.root / "gap", tmp_path / "elsewhere")
    (store.root / "mine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CommandError, match="is a link to another folder"):
        remove(store, "mine", [1])
    (store.root / "gap" / "2").symlink_to(tmp_path / "elsewhere" / "1")
    assert remove(store, "gap", [2]).versions == (2,)
    assert (tmp_path / "elsewhere" / "1" / MODEL).is_file()


def test_a_running_server_drops_it_at_its_next_look(store):
    publish_whole(store, "flatten", "f")
    for _ in range(2):
        publish_whole(store)
    heads = load(store)
    assert heads.get("gap").card.version == 2
    remove(store, "gap", [2])
    assert heads.refresh()
    assert heads.get("gap").card.version == 1
    remove(store, "gap", [1])
    assert heads.refresh()
    assert list(heads.serving()) == ["flatten"]


# at once


def test_a_reader_sees_a_version_whole_or_not_at_all(store):
    numbers = [publish(store, model=b"m" * 100_000).version for _ in range(40)]
    torn, is_done = [], threading.Event()

    def read():
        while not is_done.is_set():
            for version in store.versions("gap"):
                try:
                    store.read_card("gap", version)
                except VersionError as exc:
                    if store.folder("gap", version).exists():
                        torn.append((version, str(exc)))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            for number in numbers:
                remove(store, "gap", [number])
        finally:
            is_done.set()
        reading.result()
    assert torn == []
    assert store.heads() == []


def test_two_that_remove_a_head_at_once_remove_each_version_once(store):
    for _ in range(5):
        publish_whole(store, "flatten", "f")
        versions = [publish_whole(store).version for _ in range(8)]
        removed = []

        def take(versions=versions, removed=removed):
            with suppress(CommandError):  # The other was faster with all of them.
                removed.extend(remove(store, "gap", versions).versions)

        with ThreadPoolExecutor(2) as pool:
            for one in [pool.submit(take) for _ in range(2)]:
                one.result()
        assert sorted(removed) == versions
        assert left(store) == {"flatten", COMPILED}
        assert compiled(store) == {"b", "f"}


def test_what_is_published_while_its_head_is_removed_is_published(store):
    """Also when the folder of the head goes away between two of the publisher's steps."""
    is_done = threading.Event()

    def clear():
        while not is_done.is_set():
            with suppress(CommandError):
                remove(store, "gap", store.versions("gap") or [1])

    with ThreadPoolExecutor(1) as pool:
        clearing = pool.submit(clear)
        try:
            for _ in range(100):
                publish(store)
        finally:
            is_done.set()
        clearing.result()
    last = publish(store)
    assert store.read_card("gap", last.version) == last
    assert not [name for name in left(store) if name.startswith(REMOVING)]


def test_a_removal_that_is_cut_off_leaves_nothing_to_see(store):
    for _ in range(2):
        publish_whole(store)
    pid = os.fork()
    if pid == 0:
        with staged(store.root, REMOVING) as folder:
            store.folder("gap", 2).rename(folder / "2")
            os._exit(0)
    os.waitpid(pid, 0)
    assert any(name.startswith(REMOVING) for name in left(store))
    assert (store.heads(), store.versions("gap")) == (["gap"], [1])
    assert remove(store, "gap", [1]).versions == (1,)
    assert store.heads() == []
