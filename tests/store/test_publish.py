import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes import card, publish, publish_network
from process import MODULES
from stored import empty
from waiting import PATIENCE_S, wait_until

from service.store.layout import CARD, COMPILED, MODEL
from service.store.publish import check_writable, publish_version, staged

DIGEST = "d" * 64


@pytest.fixture
def store(tmp_path):
    return empty(tmp_path)


def child(store, code, **environment):
    """A process that runs `code` with `store` and fakes at hand."""
    start = (
        "import fakes, sys\nfrom pathlib import Path\nfrom service.store.publish import *\n"
        f"store = Store(Path('{store.root}'), Path('{store.cache}'))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + code],
        env=os.environ | MODULES | environment,
        stdin=subprocess.PIPE,  # nothing comes from it, where the tests' own may be at its end
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    return output


def visible(store):
    """Everything below the store that is no staging folder."""
    return sorted(str(path.relative_to(store.root)) for path in store.root.glob("[!.]*/*"))


def test_versions_count_from_one(store):
    assert [publish(store).version for _ in range(3)] == [1, 2, 3]
    assert publish(store, "flatten").version == 1


def test_a_number_is_not_used_again_while_a_newer_version_is_there(store):
    for _ in range(3):
        publish(store)
    (store.folder("gap", 2) / CARD).unlink()
    assert publish(store).version == 4


def test_a_file_in_the_way_of_a_number_is_left_alone(store):
    publish(store)
    (store.root / "gap" / "2").write_text("somebody's note")
    assert publish(store).version == 3
    assert (store.root / "gap" / "2").read_text() == "somebody's note"


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere")])
def test_what_is_in_the_way_of_a_heads_folder_is_told(store, make):
    make(store.root / "gap")
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        publish(store)


@pytest.mark.parametrize("folder", ["new", "new/er"])
def test_looking_whether_a_new_store_can_be_written_leaves_nothing(store, folder):
    check_writable(store.root / folder)
    assert list(store.root.iterdir()) == []


def test_what_is_published_has_ordinary_permissions(store):
    publish(store)
    folder, compiled = store.folder("gap", 1), publish_network(store, DIGEST)
    mask = os.umask(0)
    os.umask(mask)
    for path in (folder, compiled):
        assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~mask
    for path in (*folder.iterdir(), *compiled.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_publishing_leaves_no_staging_folder(store):
    publish(store)
    publish_network(store, DIGEST)
    assert {path.name for path in store.root.iterdir()} == {"gap", COMPILED}
    assert {path.name for path in (store.root / COMPILED).iterdir()} == {DIGEST}


def test_a_reader_never_sees_a_version_without_its_card_and_model(store):
    published = threading.Event()
    seen = set()

    def read():
        while not published.is_set():
            for head in store.heads():
                seen.update(store.read_card(head, version).version for version in store.versions(head))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        publish(store)
        wait_until(lambda: seen or reading.done())
        for _ in range(40):
            publish(store, model=b"m" * 100_000)
        wait_until(lambda: len(seen) == 41 or reading.done())
        published.set()
        reading.result()
    assert seen == set(range(1, 42))


def test_publishers_at_once_get_different_numbers(store):
    code = "for _ in range(20): print(fakes.publish(store, model=sys.argv[0].encode()).version)"
    publishers = [child(store, code) for _ in range(3)]
    numbers = [int(line) for process in publishers for line in finish(process).split()]
    assert sorted(numbers) == list(range(1, 61))
    assert [store.read_card("gap", number).version for number in range(1, 61)] == list(range(1, 61))


def test_compiling_the_same_network_at_once_works_for_all(store):
    with ThreadPoolExecutor(4) as pool:
        for digest in (f"{number:064}" for number in range(20)):
            folders = set(pool.map(publish_network, [store] * 4, [digest] * 4))
            assert folders == {store.compiled(digest, "openvino")}


def test_an_error_in_the_middle_leaves_nothing(store):
    publish(store)
    before = visible(store)

    def give_up():
        with staged(store.root) as folder:
            (folder / MODEL).write_bytes(b"half a mod")
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        give_up()
    assert visible(store) == before
    assert [path.name for path in store.root.iterdir()] == ["gap"]


def test_an_error_while_writing_the_card_leaves_nothing(store):
    unwritable = card("gap").model_copy(update={"labels": ("\ud800",) * 3})
    with staged(store.root) as folder:
        (folder / MODEL).write_bytes(b"a model")
        with pytest.raises(ValueError, match="surrogates"):
            publish_version(store, folder, unwritable)
    assert store.heads() == []
    assert visible(store) == []


@pytest.mark.parametrize("limit", [100, 1000], ids=["model", "card"])
def test_a_full_disk_leaves_nothing(store, limit):
    """As far as a process can tell, its file size limit is a full disk: the write fails half done."""
    publish(store)
    before = visible(store)
    full = child(
        store,
        f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "fakes.publish(store, model=b'm' * 500)",
    )
    _, errors = full.communicate(timeout=PATIENCE_S)
    assert "OSError: [Errno 27] File too large" in errors
    assert visible(store) == before
    assert [path.name for path in store.root.iterdir()] == ["gap"]


@pytest.mark.parametrize("moment", ["(folder / MODEL).write_bytes(b'half a mod')", "fill(folder)"])
def test_a_publisher_that_is_killed_leaves_nothing_to_see(store, moment):
    publish(store)
    killed = child(
        store,
        "from service.store.layout import MODEL\n"
        "def fill(folder):\n"
        "    (folder / MODEL).write_bytes(b'a model')\n"
        "    (folder / CARD).write_text(fakes.card(version=2).model_dump_json())\n"
        "with staged(store.root) as folder:\n"
        f"    {moment}\n"
        "    print('in the middle', flush=True)\n"
        "    sys.stdin.read()\n",
    )
    assert killed.stdout.readline() == "in the middle\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=PATIENCE_S)
    assert len(list(store.root.glob(".staging-*"))) == 1
    assert (store.heads(), store.versions("gap")) == (["gap"], [1])
    assert publish(store).version == 2
    assert store.read_card("gap", 2).version == 2


def test_labels_are_stored_in_utf8_whatever_the_locale(store):
    code = "fakes.publish(store, labels=('r\\u00f8d', '\\u7dd1', 'blue'))"
    finish(child(store, code, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0"))
    assert store.read_card("gap", 1).labels == ("rød", "緑", "blue")
