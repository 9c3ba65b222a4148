"""`resnet-heads heads` and `remove`: what a store holds, and what goes, for people and scripts."""

import json
import re

import pytest
from fakes import card, publish, publish_network, quantization
from process import run
from stored import empty

from service.cli.arguments import parser
from service.cli.listing import show_heads
from service.cli.main import COMMANDS
from service.errors import ServiceError
from service.store.layout import CARD, MODEL, Store


@pytest.fixture
def store(tmp_path):
    """`flatten` 1, `gap` 1 and 2, `gap-int8` 1, and `broken` 1, whose card is cut short."""
    made = empty(tmp_path)
    for digest in ("b" * 64, "e" * 64, "f" * 64):
        publish_network(made, digest, b"n" * 500_000)
    flatten = card().structure.model_copy(update={"pooling": "flatten", "digest": "f" * 64})
    publish(made, "flatten", structure=flatten, model=b"m" * 1_000_000)
    publish(made)
    publish(made, origin="trained")
    publish(made, "gap-int8", quantization=quantization(), precision="int8")
    publish(made, "broken")
    path = made.folder("broken", 1) / CARD
    path.write_text(path.read_text()[:-9])
    return made


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_every_version_is_a_row(store, capsys):
    show_heads(store, as_json=False)
    printed = capsys.readouterr()
    heading, *found = rows(printed.out)
    assert " ".join(heading) == "head version classes input pooling precision origin created (UTC)"
    created = ["2026-01-02", "00:00"]
    assert found[:5] == [
        ["broken", "1", "-", "-", "-", "-", "-", "-"],
        ["flatten", "1", "3", "8x8", "flatten", "f32", "imported", *created],
        ["gap", "2", "3", "8x8", "gap", "f32", "trained", *created],
        ["gap", "1", "3", "8x8", "gap", "f32", "imported", *created],
        ["gap-int8", "1", "3", "8x8", "gap", "int8", "imported", *created],
    ]
    assert printed.out.splitlines()[6].startswith(
        "broken version 1: card.json is not valid at its JSON:"
    )
    assert printed.err == ""


def test_a_script_reads_the_same_as_json(store, capsys):
    show_heads(store, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [(one["head"], one["version"]) for one in found] == [
        ("broken", 1),
        ("flatten", 1),
        ("gap", 2),
        ("gap", 1),
        ("gap-int8", 1),
    ]
    assert found[0]["failed"].startswith("card.json is not valid")
    assert found[0]["classes"] is None
    assert found[2] == {
        "head": "gap",
        "version": 2,
        "classes": 3,
        "height": 8,
        "width": 8,
        "pooling": "gap",
        "precision": "f32",
        "head_weights": "f32",
        "origin": "trained",
        "created": "2026-01-02T00:00:00Z",
        "failed": None,
    }


@pytest.mark.parametrize(("as_json", "printed"), [(False, ""), (True, "[]\n")])
@pytest.mark.parametrize("is_there", [False, True])
def test_an_empty_store_says_how_to_fill_it(tmp_path, capsys, as_json, printed, is_there):
    if is_there:
        (tmp_path / "none").mkdir()
    show_heads(Store(tmp_path / "none", tmp_path / "cache"), as_json=as_json)
    told = capsys.readouterr()
    assert told.out == printed
    assert told.err == f"The store {tmp_path / 'none'} is empty; fill it with: resnet-heads init\n"


def test_a_card_is_enough(store, capsys):
    """No other file of a version is opened."""
    for path in store.root.rglob(MODEL):
        path.unlink()
    show_heads(store, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [one["head"] for one in found if one["failed"]] == ["broken"]


@pytest.fixture
def command(store):
    """A command on the store, in a process of its own."""

    def command(*words):
        return run(*words, "--store-dir", str(store.root), RESNET_HEADS_CACHE_DIR=str(store.cache))

    return command


def test_remove_says_what_went_and_how_much(store, command):
    done = command("remove", "flatten")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Removed flatten version 1: 1.0 MB",
        "Removed compiled files that no other version uses: 1.0 MB",
    ]
    assert store.heads() == ["broken", "gap", "gap-int8"]
    done = command("remove", "gap/2")
    assert done.stdout.splitlines() == ["Removed gap version 2: 0.0 MB"]
    assert store.versions("gap") == [1]
    done = command("heads")
    assert [row[:2] for row in rows(done.stdout)[1:4]] == [
        ["broken", "1"],
        ["gap", "1"],
        ["gap-int8", "1"],
    ]


REFUSED = {
    "nothing": "There is no head named 'nothing'; heads in the store: broken, flatten, gap, gap-int8.",
    "gap/7": "Head gap has no version 7; versions in the store: 2, 1.",
    "gap/0": "'gap/0' is neither HEAD nor HEAD/VERSION.",
    "gap/": "'gap/' is neither HEAD nor HEAD/VERSION.",
    "gap/1/model.keras": "'gap/1/model.keras' is neither HEAD nor HEAD/VERSION.",
    "../store/gap": "'../store/gap' is neither HEAD nor HEAD/VERSION.",
    "..": "There is no head named '..'; heads in the store: broken, flatten, gap, gap-int8.",
    "": "There is no head named ''; heads in the store: broken, flatten, gap, gap-int8.",
}


@pytest.mark.parametrize("target", REFUSED)
def test_what_is_not_there_is_refused_and_nothing_goes(store, target):
    before = sorted(store.root.rglob("*"))
    arguments = parser(COMMANDS).parse_args(["remove", target, "--store-dir", str(store.root)])
    with pytest.raises(ServiceError) as refused:
        arguments.run(arguments)
    assert str(refused.value) == REFUSED[target]
    assert sorted(store.root.rglob("*")) == before


def test_the_help_lists_both():
    told = run("--help").stdout
    assert re.search(r"^ +heads +list the versions", told, re.MULTILINE)
    assert re.search(r"^ +remove +take a head", told, re.MULTILINE)
