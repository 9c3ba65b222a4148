"""A store that changes while its heads serve."""

import shutil
import threading
import time

import pytest
from fakes import PATIENCE_S, FakeEngine, publish, publish_network

from service.errors import UnknownHead, UnknownVersion, VersionError
from service.serving.heads import Heads
from service.serving.turn import Turn
from service.store.card import Structure
from service.store.layout import CARD, Store

BACKBONE, GAP, OTHER = "b" * 64, "e" * 64, "0" * 64


def no_tensorflow(_store, head, version, _engine):
    raise VersionError(f"run: compile {head} {version}")


def structure(digest=GAP):
    return Structure(digest=digest, pooling="gap", parameters=12, weight_bytes=48)


@pytest.fixture
def store(tmp_path):
    """`gap` 1 and `flatten` 1, with fake compiled files."""
    (tmp_path / "store").mkdir()
    made = Store(tmp_path / "store", tmp_path / "cache")
    for digest in (BACKBONE, GAP):
        publish_network(made, digest)
    for name in ("gap", "flatten"):
        publish(made, name, structure=structure())
    return made


def load(store, engine=None, **wishes):
    heads = Heads(store, lambda: engine or FakeEngine(), 4, no_tensorflow, **wishes)
    heads.load()
    return heads


def serving(heads):
    return {name: one.card.version for name, one in heads.serving().items()}


def loaded(heads, name="gap"):
    return sorted(heads.statuses[name].loaded)


def publish_bad(store):
    """A version whose golden check fails."""
    golden = store.card("gap", 1).golden.model_copy(update={"probabilities": (0.0, 1.0, 0.0)})
    return publish(store, structure=structure(), golden=golden)


def test_a_store_that_has_not_changed_opens_nothing(store):
    engine = FakeEngine()
    heads = load(store, engine)
    before, opened = heads.statuses, list(engine.opened)
    assert heads.refresh() is False
    assert heads.statuses == before
    assert engine.opened == opened


def test_a_new_version_is_checked_and_warmed_between_the_batches_that_serve(store):
    turn = Turn()
    heads = load(store, turn=turn)
    publish(store, structure=structure())
    loading = threading.Thread(target=heads.refresh)
    with turn:  # a batch is being computed
        loading.start()
        loading.join(0.2)
        assert loading.is_alive(), "it computed beside the batch"
    loading.join(20)
    assert serving(heads)["gap"] == 2


def test_a_new_version_serves_and_the_one_before_stays_for_who_asks(store):
    heads = load(store, kept_versions=2)
    first = heads.get("gap")
    publish(store, structure=structure())
    assert serving(heads) == {"flatten": 1, "gap": 1}, "nobody has looked yet"
    assert heads.refresh() is True
    assert serving(heads) == {"flatten": 1, "gap": 2}
    assert heads.get("gap", 1) is first
    assert heads.get("gap", 2) is heads.get("gap")
    publish(store, structure=structure())
    assert heads.refresh() is True
    assert loaded(heads) == [2, 3]
    with pytest.raises(UnknownVersion, match=r"Version 1 of head 'gap' is not loaded; loaded: 2, 3\."):
        heads.get("gap", 1)


def test_heads_come_and_go(store):
    heads = load(store)
    publish(store, "new", structure=structure())
    shutil.rmtree(store.root / "flatten")
    assert heads.refresh() is True
    assert serving(heads) == {"gap": 1, "new": 1}
    with pytest.raises(UnknownHead):
        heads.get("flatten")


def test_a_store_that_was_empty_serves_what_comes(tmp_path):
    (tmp_path / "store").mkdir()
    empty = Store(tmp_path / "store", tmp_path / "cache")
    heads = load(empty)
    assert heads.refresh() is False
    for digest in (BACKBONE, GAP):
        publish_network(empty, digest)
    publish(empty, structure=structure())
    assert heads.refresh() is True
    assert serving(heads) == {"gap": 1}


def test_a_bad_version_never_replaces_a_good_one(store):
    heads = load(store)
    good = heads.get("gap")
    publish_bad(store)
    assert heads.refresh() is True
    assert heads.get("gap") is good
    assert heads.statuses["gap"].failures[2].startswith("golden check: probabilities differ")
    assert heads.refresh() is False, "it is not tried again and again"


def test_a_version_that_is_mended_on_disk_is_tried_again(store):
    heads = load(store)
    publish(store, structure=structure(OTHER))
    heads.refresh()
    assert "run: compile gap 2" in heads.statuses["gap"].failures[2]
    publish_network(store, OTHER)
    assert heads.refresh() is True
    assert serving(heads)["gap"] == 2
    assert heads.statuses["gap"].failures == {}


def test_a_version_that_is_damaged_on_disk_later_goes_on_serving(store):
    heads = load(store)
    good = heads.get("gap")
    (store.folder("gap", 1) / CARD).write_text("{}")
    assert heads.refresh() is True
    assert heads.get("gap") is good
    assert "card.json is not valid" in heads.statuses["gap"].failures[1]


def test_deleting_the_newest_version_falls_back(store):
    publish(store, structure=structure())
    heads = load(store)
    assert (serving(heads)["gap"], loaded(heads)) == (2, [2])
    shutil.rmtree(store.folder("gap", 2))
    assert heads.refresh() is True
    assert serving(heads)["gap"] == 1


def test_a_store_that_is_gone_changes_nothing(store):
    heads = load(store)
    store.root.rename(store.root.with_name("elsewhere"))
    assert heads.refresh() is False
    store.root.mkdir()
    assert heads.refresh() is False
    assert serving(heads) == {"flatten": 1, "gap": 1}


def test_a_pinned_version_serves_whatever_is_newer(store):
    for _ in range(3):
        publish(store, structure=structure())
    heads = load(store, pinned={"gap": 2}, kept_versions=1)
    assert serving(heads) == {"flatten": 1, "gap": 2}
    assert loaded(heads) == [2, 4], "the newest is there too, to be asked for"
    publish(store, structure=structure())
    heads.refresh()
    assert (serving(heads)["gap"], loaded(heads)) == (2, [2, 5])


def test_a_pinned_version_that_is_bad_or_absent_leaves_the_newest_good_one(store):
    assert publish_bad(store).version == 2
    assert serving(load(store, pinned={"gap": 2}))["gap"] == 1
    assert serving(load(store, pinned={"gap": 9}))["gap"] == 1


def test_what_no_version_uses_any_more_is_forgotten(store):
    import gc
    import weakref

    heads = load(store)
    shutil.rmtree(store.root / "flatten")
    forgotten = weakref.ref(heads.get("gap").backbone)
    other = "b" + "c" * 63
    publish_network(store, other)
    backbone = store.card("gap", 1).backbone.model_copy(update={"digest": other})
    engine_key = structure()
    publish(store, structure=engine_key, backbone=backbone)
    heads.refresh()
    gc.collect()
    assert forgotten() is None


class HeldEngine(FakeEngine):
    """Opens no head until it is let."""

    def __init__(self):
        super().__init__()
        self.let, self.asked = threading.Event(), threading.Event()

    def open_head(self, folder):
        self.asked.set()
        assert self.let.wait(PATIENCE_S)
        return super().open_head(folder)


def test_while_a_new_version_loads_the_old_one_serves(store):
    engine = HeldEngine()
    engine.let.set()
    heads = load(store, engine)
    engine.let.clear()
    engine.asked.clear()
    publish(store, structure=structure())
    refreshing = threading.Thread(target=heads.refresh)
    refreshing.start()
    assert engine.asked.wait(PATIENCE_S)
    assert serving(heads) == {"flatten": 1, "gap": 1}
    engine.let.set()
    refreshing.join(PATIENCE_S)
    until = time.monotonic() + PATIENCE_S
    while serving(heads)["gap"] != 2:
        assert time.monotonic() < until
