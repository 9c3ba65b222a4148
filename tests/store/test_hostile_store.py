"""No link leads out of a store, and what has no end is not waited for."""

import os
import shutil

import httpx
import pytest
from live import running
from stored import BACKBONE, HEAD, filled, load
from waiting import wait_until

from service.app import create_app
from service.errors import VersionError
from service.settings import Settings
from service.store.layout import CARD, MANIFEST, MAX_TEXT_BYTES, MODEL, Store

WORDS = "what only the machine may know"


@pytest.fixture
def store(tmp_path):
    """`gap` 1 on fake compiled files, and beside the store a copy of all, and a secret."""
    made = filled(tmp_path, "gap")
    shutil.copytree(made.root, tmp_path / "elsewhere")
    (tmp_path / "secret").write_text(WORDS)
    return made


def replaced(path, target):
    """A link to a target beside the store takes the place of a file or folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(target)


OUTSIDE = {
    "the head": "gap",
    "the version": "gap/1",
    "the card": f"gap/1/{CARD}",
    "compiled files": f".compiled/{HEAD}/openvino",
    "a compiled file": f".compiled/{HEAD}/openvino/network.bin",
    "a manifest": f".compiled/{BACKBONE}/openvino/{MANIFEST}",
}


@pytest.mark.parametrize("path", OUTSIDE.values(), ids=OUTSIDE)
def test_a_link_out_of_the_store_is_not_followed_even_to_the_same(store, path):
    assert load(store).serving(), "it must be good before"
    replaced(store.root / path, store.root.parent / "elsewhere" / path)
    heads = load(store)
    assert not heads.serving()
    (reason,) = heads.statuses["gap"].failures.values()
    assert "lies outside the store" in reason or reason.startswith("run: compile")


def test_get_heads_tells_nothing_of_what_a_link_leads_to(store):
    replaced(store.root / "gap" / "1" / CARD, store.root.parent / "secret")
    app = create_app(Settings(store_dir=store.root, cache_dir=store.cache))
    with running(app) as url:
        wait_until(lambda: not app.state.context.heads.is_loading)
        told = httpx.get(f"{url}/heads").text
    assert "lies outside the store" in told
    assert WORDS not in told
    assert str(store.root.parent) not in told


def test_a_link_within_the_store_is_followed(store):
    card, place = store.folder("gap", 1) / CARD, store.root / ".cards"
    card.rename(place)
    card.symlink_to(place)
    assert load(store).serving()


def test_the_store_itself_may_be_a_link(store, tmp_path):
    (tmp_path / "link").symlink_to(store.root)
    assert load(Store(tmp_path / "link", store.cache)).serving()


def test_a_model_file_that_is_a_link_or_a_pipe_is_not_read(store):
    path = store.folder("gap", 1) / MODEL
    replaced(path, store.root.parent / "elsewhere" / "gap" / "1" / MODEL)
    with pytest.raises(VersionError, match="lies outside the store"):
        store.source_of(store.card("gap", 1))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(VersionError, match="is not a file"):
        store.source_of(store.card("gap", 1))


@pytest.mark.parametrize("path", [f"gap/1/{CARD}", f".compiled/{HEAD}/openvino/network.bin"])
def test_a_pipe_is_not_waited_for(store, path):
    (store.root / path).unlink()
    os.mkfifo(store.root / path)
    assert not load(store).serving()


@pytest.mark.parametrize("path", [f"gap/1/{CARD}", f".compiled/{HEAD}/openvino/{MANIFEST}"])
def test_a_text_of_a_gigabyte_is_not_read(store, path):
    with (store.root / path).open("r+b") as file:
        file.truncate(10**9)
    heads = load(store)
    assert not heads.serving()
    (reason,) = heads.statuses["gap"].failures.values()
    assert f"larger than {MAX_TEXT_BYTES} bytes" in reason or reason.startswith("run: compile")


def test_a_compiled_file_that_no_manifest_names_is_refused(store):
    (store.compiled(HEAD, "openvino") / "more.bin").write_bytes(b"x")
    with pytest.raises(VersionError, match=r"more\.bin is not in manifest"):
        store.compiled(HEAD, "openvino")
