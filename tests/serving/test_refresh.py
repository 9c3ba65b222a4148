"""A store that changes while its heads serve."""

import errno
import shutil
import threading

import pytest
from fakes import FakeEngine, MeanBackbone, publish, publish_network, structure
from stored import HEAD, after, empty, filled, heads_of, io_error, load, publish_compiled_files, serving
from waiting import PATIENCE_S

from service.errors import (
    GoldenCheckFailed,
    NotReady,
    RebuildInterrupted,
    UnknownHead,
    UnknownVersion,
    VersionError,
)
from service.serving.engine_lock import EngineLock
from service.store.card import Backbone
from service.store.layout import CARD, MANIFEST, MODEL, Store

OTHER = "0" * 64


@pytest.fixture
def store(tmp_path):
    """`gap` 1 and `flatten` 1, with fake compiled files."""
    return filled(tmp_path, "gap", "flatten")


def loaded(heads, name="gap"):
    return sorted(heads.statuses[name].loaded)


def publish_bad(store):
    """A version whose golden check fails."""
    golden = store.card("gap", 1).golden.model_copy(update={"probabilities": (0.0, 1.0, 0.0)})
    return publish(store, golden=golden)


def test_a_store_that_has_not_changed_opens_nothing(store):
    engine = FakeEngine()
    heads = load(store, engine)
    before, opened = heads.statuses, list(engine.opened)
    assert heads.refresh() is False
    assert heads.statuses == before
    assert engine.opened == opened


def test_a_new_version_is_checked_and_warmed_between_the_batches_that_serve(store):
    engine_lock = EngineLock()
    heads = load(store, engine_lock=engine_lock)
    publish(store)
    loading = threading.Thread(target=heads.refresh)
    with engine_lock:  # a batch is being computed
        loading.start()
        loading.join(0.2)
        assert loading.is_alive(), "it computed beside the batch"
    loading.join(20)
    assert serving(heads)["gap"] == 2


def test_a_new_version_serves_when_it_is_warm_for_every_batch(store):
    publish_network(store, OTHER)
    heads = load(store, FakeEngine(n0=MeanBackbone()))
    other = Backbone(digest=OTHER, parameters=1, feature_shape=(1, 1, 3))
    publish(store, backbone=other)
    heads.refresh()
    gap = heads.get("gap")
    assert (gap.card.version, gap.backbone.warm_sizes) == (2, [1, 2, 4])
    assert gap.network.sizes == [1, 2, 3, 4]


def test_a_new_version_serves_and_the_one_before_stays_for_who_asks(store):
    heads = load(store, kept_versions=2)
    first = heads.get("gap")
    publish(store)
    assert serving(heads) == {"flatten": 1, "gap": 1}, "nobody has looked yet"
    assert heads.refresh() is True
    assert serving(heads) == {"flatten": 1, "gap": 2}
    assert heads.get("gap", 1) is first
    assert heads.get("gap", 2) is heads.get("gap")
    publish(store)
    assert heads.refresh() is True
    assert loaded(heads) == [2, 3]
    with pytest.raises(UnknownVersion, match=r"Version 1 of head 'gap' is not loaded; loaded: 2, 3\."):
        heads.get("gap", 1)


def test_heads_come_and_go(store):
    heads = load(store)
    publish(store, "new")
    shutil.rmtree(store.root / "flatten")
    assert heads.refresh() is True
    assert serving(heads) == {"gap": 1, "new": 1}
    with pytest.raises(UnknownHead):
        heads.get("flatten")


def test_a_store_that_was_empty_serves_what_comes(tmp_path):
    store = empty(tmp_path)
    heads = load(store)
    assert heads.refresh() is False
    publish_compiled_files(store)
    publish(store)
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
    publish(store, structure=structure(digest=OTHER))
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
    publish(store)
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
        publish(store)
    heads = load(store, pinned={"gap": 2}, kept_versions=1)
    assert serving(heads) == {"flatten": 1, "gap": 2}
    assert loaded(heads) == [2, 4], "the newest is there too, to be asked for"
    publish(store)
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
    publish(store, backbone=backbone)
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
    publish(store)
    refreshing = threading.Thread(target=heads.refresh)
    refreshing.start()
    assert engine.asked.wait(PATIENCE_S)
    assert serving(heads) == {"flatten": 1, "gap": 1}
    engine.let.set()
    refreshing.join(PATIENCE_S)
    assert serving(heads)["gap"] == 2


def caused(error, by):
    error.__cause__ = by
    return error


class Failing(FakeEngine):
    """Raises `error`, if it is set, instead of opening the head of that digest."""

    def __init__(self, digest=HEAD):
        super().__init__()
        self.error, self.tries, self._digest = None, 0, digest

    def open_head(self, folder):
        if folder.parent.name == self._digest:
            self.tries += 1
            if self.error:
                raise self.error
        return super().open_head(folder)


@pytest.fixture
def unreadable():
    """Names of files that `disk` cannot read, and `store` where it cannot list that."""
    return set()


def on_disk(store, cannot_read):
    """The store on a disk that fails where `cannot_read(path)`."""

    class Disk(type(store.root)):
        def open(self, *args, **kwargs):
            if cannot_read(self):
                raise io_error()
            return super().open(*args, **kwargs)

        def iterdir(self):
            if cannot_read(self):
                raise io_error()
            return super().iterdir()

    return Store(Disk(store.root), store.cache)


@pytest.fixture
def disk(store, unreadable):
    """The store on a disk that fails."""
    return on_disk(store, lambda path: path.name in unreadable)


def test_a_first_load_that_an_io_error_has_ended_is_made_up_for(disk, unreadable):
    unreadable.add("store")
    heads = heads_of(disk)
    with pytest.raises(OSError, match="Input/output"):
        heads.load()
    with pytest.raises(OSError, match="Input/output"):
        heads.refresh()
    assert heads.missing(()) == ["Heads could not be loaded: OSError: [Errno 5] Input/output error"]
    assert heads.has_transient_failure()
    unreadable.clear()
    assert heads.refresh() is True
    assert heads.missing(("gap", "flatten")) == []
    assert heads.get("gap").card.version == 1
    assert not heads.has_transient_failure()


def test_an_engine_that_did_not_open_is_opened_later(store):
    heads = heads_of(store, after(ImportError("libopenvino.so: too early"), io_error()))
    for reason in ("libopenvino", "Input/output"):
        with pytest.raises((ImportError, OSError)):
            heads.refresh()
        assert reason in heads.missing(())[0]
    assert heads.refresh() is True
    assert heads.missing(("gap", "flatten")) == []
    assert heads.engine_name == "openvino"


def test_what_was_opened_before_a_first_load_failed_is_not_opened_again(store):
    engine, errors = FakeEngine(), [io_error()]

    class Once(Store):
        def versions(self, head):
            if head == "gap" and engine.opened and errors:
                raise errors.pop()
            return super().versions(head)

    heads = heads_of(Once(store.root, store.cache), lambda: engine)
    with pytest.raises(OSError, match="Input/output"):
        heads.load()
    assert heads.refresh() is True
    assert engine.opened == ["b", "e", "e"], "one backbone, and a head of each name"


TRANSIENT = {
    "memory": MemoryError("Unable to allocate 98 MiB"),
    "I/O": io_error(),
    "too many files": OSError(errno.EMFILE, "Too many open files"),
    "a full disk": OSError(errno.ENOSPC, "No space left on device"),
    "no right": PermissionError(errno.EACCES, "Permission denied"),
    "OpenVINO's allocation": caused(
        VersionError("OpenVINO cannot open it: of memory"),
        RuntimeError("Check 'ptr' failed at cpu_memory.cpp:257:\nFailed to allocate 33554432 bytes"),
    ),
    "OpenVINO's mapping": RuntimeError(
        "Can not create file mapping for 4, err=Cannot allocate memory\n\n"
    ),
    "C++": RuntimeError("Exception from core.cpp:117: std::bad_alloc"),
    "a GPU": caused(VersionError("Keras cannot open it"), Exception("OOM when allocating tensor")),
    "the golden check": caused(GoldenCheckFailed("its image"), MemoryError()),
    "a child": RebuildInterrupted("signal 9 ended the compilation"),
}


@pytest.mark.parametrize("error", TRANSIENT.values(), ids=TRANSIENT)
def test_what_no_version_is_to_blame_for_is_tried_at_each_look_and_told_once(store, error, caplog):
    engine = Failing()
    engine.error = error
    heads = load(store, engine)
    assert heads.has_transient_failure()
    reason = heads.missing(("gap",))
    for _ in range(3):
        assert heads.refresh() is False
        assert heads.missing(("gap",)) == reason
    told = [one.getMessage() for one in caplog.records if "gap version 1 stays out" in one.getMessage()]
    assert len(told) == 1
    engine.error = None
    assert heads.refresh() is True
    assert heads.missing(("gap", "flatten")) == []
    assert not heads.has_transient_failure()
    tries = engine.tries
    assert heads.refresh() is False
    assert engine.tries == tries


def test_a_transient_failure_that_changes_is_told_again(store, caplog):
    engine = Failing()
    engine.error = io_error()
    heads = load(store, engine)
    for engine.error in (io_error(), MemoryError(), MemoryError()):
        heads.refresh()
    told = [one.getMessage() for one in caplog.records if "gap version 1 stays out" in one.getMessage()]
    assert [line.partition("stays out: ")[2] for line in told] == [
        "OSError: [Errno 5] Input/output error",
        "MemoryError:",
    ]


BLAMED = {
    "the engine's refusal": VersionError("OpenVINO cannot open it: Unable to read the model"),
    "a wrong answer": GoldenCheckFailed("probabilities differ"),
    "shapes": RuntimeError("shapes do not match"),
    "a file that is gone": FileNotFoundError(errno.ENOENT, "No such file or directory"),
}


@pytest.mark.parametrize("error", BLAMED.values(), ids=BLAMED)
def test_what_a_version_is_to_blame_for_is_not_tried_again(store, error):
    engine = Failing()
    engine.error = error
    heads = load(store, engine)
    tries = engine.tries
    heads.refresh()
    assert engine.tries == tries
    assert not heads.has_transient_failure()


def test_a_new_version_that_fails_for_lack_of_memory_harms_none_that_serves(store):
    publish_network(store, OTHER)
    engine = Failing(OTHER)
    engine.error = MemoryError()
    heads = load(store, engine)
    good = heads.get("gap")
    publish(store, structure=structure(digest=OTHER))
    for _ in range(3):
        heads.refresh()
        assert heads.get("gap") is good
    engine.error = None
    heads.refresh()
    assert serving(heads)["gap"] == 2


@pytest.mark.parametrize("name", [CARD, MANIFEST, "network.bin"])
def test_files_that_cannot_be_read_now_are_read_later_and_not_compiled_meanwhile(disk, unreadable, name):
    asked = []
    heads = heads_of(disk, rebuild=lambda *version: asked.append(version))
    unreadable.add(name)
    heads.load()
    assert "Input/output error" in heads.missing(())[0]
    assert "damaged" not in heads.missing(())[0]
    unreadable.clear()
    heads.refresh()
    assert heads.missing(("gap", "flatten")) == []
    assert asked == []


def test_the_good_copy_of_compiled_files_serves_where_the_other_cannot_be_read(store):
    publish_network(Store(store.cache, store.cache), HEAD)
    half_bad = on_disk(store, lambda path: HEAD in path.parts)
    assert serving(load(half_bad)) == {"flatten": 1, "gap": 1}


def test_a_rebuild_that_was_cut_short_is_begun_again_and_announced_once(store, caplog):
    (store.compiled(HEAD, "openvino") / "network.bin").write_bytes(b"harmed")
    is_killed = [True, True, False]

    def rebuild(store_, *_):
        if is_killed.pop(0):
            raise RebuildInterrupted("signal 9 ended the compilation.")
        publish_network(store_, HEAD)

    shutil.rmtree(store.root / "flatten")
    heads = load(store, rebuild=rebuild)
    heads.refresh()
    assert "signal 9" in heads.missing(())[0]
    heads.refresh()
    assert serving(heads) == {"gap": 1}
    assert sum("compiling it" in one.getMessage() for one in caplog.records) == 1


@pytest.mark.parametrize("name", [MODEL, "network.bin"])
def test_mending_any_file_of_a_version_that_is_out_is_noticed(store, name):
    """The model is what compiled files are derived from; network.bin may be copied anew by hand."""
    compiled = store.compiled(HEAD, "openvino") / "network.bin"
    good = compiled.read_bytes()
    compiled.write_bytes(b"harmed")

    def rebuild(store_, head, version, _):
        store_.read_card(head, version)
        publish_network(store_, HEAD)

    for head in ("gap", "flatten"):
        (store.folder(head, 1) / MODEL).write_bytes(b"harmed too")
    heads = load(store, rebuild=rebuild)
    assert serving(heads) == {}
    file, content = (compiled, good) if name != MODEL else (store.folder("gap", 1) / MODEL, b"a model")
    file.write_bytes(content)
    heads.refresh()
    assert serving(heads)["gap"] == 1


def test_what_is_mended_while_it_is_tried_is_tried_again(store):
    (store.compiled(HEAD, "openvino") / "network.bin").write_bytes(b"harmed")

    def mended_too_late(store_, *_):
        publish_network(store_, HEAD)
        raise VersionError("too late.")

    heads = load(store, rebuild=mended_too_late)
    assert "too late" in heads.missing(("flatten",))[0]
    heads.refresh()
    assert serving(heads) == {"flatten": 1, "gap": 1}


def test_once_told_to_stop_no_other_version_is_opened(store):
    stopping, engine = threading.Event(), FakeEngine()
    heads = load(store, engine, stopping=stopping)
    opened = list(engine.opened)
    publish(store)
    stopping.set()
    with pytest.raises(NotReady, match="stopping"):
        heads.refresh()
    assert engine.opened == opened
    assert serving(heads) == {"flatten": 1, "gap": 1}


def test_what_being_stopped_interrupts_is_no_failure_of_the_version(store, caplog):
    stopping = threading.Event()
    (store.compiled(HEAD, "openvino") / "network.bin").write_bytes(b"harmed")

    def interrupted(*_):
        stopping.set()
        raise RebuildInterrupted("signal 9 ended the compilation.")

    heads = heads_of(store, rebuild=interrupted, stopping=stopping)
    with pytest.raises(RebuildInterrupted):
        heads.load()
    assert "stays out" not in caplog.text
