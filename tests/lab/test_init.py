"""`init` fills an empty store, and says in one line what it did instead of what was wished."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from process import reserved_port, run

from service.errors import CommandError
from service.lab.backbones import imagenet
from service.lab.init import fill
from service.store.card import PREPROCESSING
from service.store.layout import Store

HEADS = ("gap", "flatten")
SAYS_DEMO = "Building the offline demo instead"


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store", tmp_path / "cache")


@pytest.fixture
def silent_proxy() -> Iterator[str]:
    """Takes connections and never answers, as a firewall that drops packets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def dead_proxy() -> Iterator[str]:
    """An address where nobody listens."""
    with reserved_port() as port:
        yield f"http://127.0.0.1:{port}"


def offline(proxy: str, home) -> dict[str, str]:
    """The environment of a machine whose network leads nowhere, and where nothing is cached."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
    return proxies | {"no_proxy": "", "NO_PROXY": "", "KERAS_HOME": str(home)}


@pytest.mark.parametrize("weights", [None, "imagenet", "demo", "nowhere.h5"])
def test_a_store_that_has_a_head_is_refused(store, snapshot, weights):
    (store.root / "mine" / "1").mkdir(parents=True)
    before = snapshot(store.root)
    with pytest.raises(CommandError, match="is not empty"):
        fill(store, weights)
    assert snapshot(store.root) == before


def test_a_weights_file_that_is_not_there_is_refused(store, tmp_path):
    with pytest.raises(CommandError, match="There is no weights file"):
        fill(store, str(tmp_path / "nowhere.h5"))
    assert not store.root.exists()


def test_a_store_that_takes_nothing_is_told_before_the_work(tmp_path, run_here):
    (tmp_path / "file").touch()
    done = run_here("init", "--weights", "demo", "--store-dir", str(tmp_path / "file" / "store"))
    assert done.returncode == 2
    assert done.stderr == f"resnet-heads: {tmp_path / 'file' / 'store'}: Not a directory.\n"


@pytest.mark.slow
def test_a_weights_file_gives_both_heads(imagenet_store):
    assert imagenet_store.heads() == sorted(HEADS)
    for head in HEADS:
        card = imagenet_store.read_card(head, 1)
        assert card.origin == "imagenet"
        assert card.labels == imagenet.labels()
        assert card.training is None
        assert card.input.preprocessing == PREPROCESSING["caffe"]
        assert (card.input.resize, card.input.decode) == ("center_crop", "exact")
        assert (card.input.height, card.input.width) == (224, 224)


@pytest.mark.slow
def test_only_flatten_says_that_it_is_the_twin_of_gap(imagenet_store):
    gap, flatten = (imagenet_store.read_card(head, 1) for head in HEADS)
    assert gap.notes == ()
    assert "same function as gap" in " ".join(flatten.notes)


@pytest.mark.slow
def test_both_heads_have_the_same_golden_answer(imagenet_store):
    gap, flatten = (imagenet_store.read_card(head, 1).golden for head in HEADS)
    assert gap.image == flatten.image
    assert flatten.probabilities == pytest.approx(gap.probabilities, abs=1e-5)


@pytest.mark.slow
def test_nothing_but_heads_and_compiled_files_is_left_behind(imagenet_store):
    assert {path.name for path in imagenet_store.root.iterdir()} == {*HEADS, ".compiled"}
    assert len(list((imagenet_store.root / ".compiled").iterdir())) == 3, "one backbone, two heads"


@pytest.mark.parametrize("proxy", ["dead_proxy", pytest.param("silent_proxy", marks=pytest.mark.slow)])
def test_asking_for_imagenet_without_a_network_ends_with_one_sentence(request, store, proxy, tmp_path):
    done = run(
        "init",
        "--weights",
        "imagenet",
        "--store-dir",
        str(store.root),
        **offline(request.getfixturevalue(proxy), tmp_path),
    )
    assert done.returncode == 2
    *progress, last = done.stderr.splitlines()
    assert last == "resnet-heads: The ImageNet weights cannot be had: their download failed."
    assert all(line.startswith("Fetching") for line in progress)
    assert not store.root.exists()


def test_without_a_network_init_says_that_it_builds_the_demo(store, dead_proxy, tmp_path):
    """It is stopped once it has said so: the demo itself is another test's."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "init", "--store-dir", str(store.root)],
        env=os.environ | offline(dead_proxy, tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if SAYS_DEMO in line:
                break
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    *progress, last = lines
    assert "cannot be had" in last
    assert SAYS_DEMO in last
    assert all(line.startswith("Fetching") for line in progress)
    assert not store.heads()


def test_the_command_does_nothing_if_it_is_to_fill_only_an_empty_store(store, snapshot, run_here):
    (store.root / "mine" / "1").mkdir(parents=True)
    before = snapshot(store.root)
    done = run_here("init", "--if-empty", "--store-dir", str(store.root))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert snapshot(store.root) == before
