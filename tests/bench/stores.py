"""What is served while `make bench` measures: built once, and kept with the virtual environment.

What needs TensorFlow is built in processes of their own, so that it is not beside what is measured.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from process import in_child, run

from service.store.card import PREPROCESSING
from service.store.layout import Store

SIDE = 224
QUIET = "service.serving.engines.quiet_tensorflow"
THOUSAND = {"exact": "gap", "scaled": "scaled"}  # head by how it decodes


def demo(folder: Path) -> Store:
    """What `make run` builds without a network: `gap` and `flatten`, sharing, 16 classes."""
    return _kept(folder, "demo_store", lambda store: quiet("init", "--weights", "demo", store=store))


def thousand(folder: Path) -> Store:
    """One GAP head of 1000 classes, twice. They do not share a backbone: their input differs."""
    return _kept(folder, "bench_store", lambda store: _built(store, "make_thousand"))


def pair(folder: Path, classes: int) -> Store:
    """`gap` and `flatten` of that many classes, which compute the same, and `flatten-w8`."""

    def make(store: Store) -> None:
        _built(store, "make_pair", classes)
        quiet("quantize", "flatten", "--head-weights", "int8", store=store)

    return _kept(folder, f"bench_pair_{classes}", make)


def lowered(folder: Path) -> Store:
    """The GAP head of `thousand`, and `gap-bf16` and `gap-int8` made of it."""

    def make(store: Store) -> None:
        _link(thousand(folder), "gap", store)
        labels = [f"class {number}" for number in range(4)]
        with tempfile.TemporaryDirectory() as scratch:
            in_child(
                f"import {QUIET}; from bench.lab import photographs; "
                f"photographs({scratch!r}, 160, {labels})"
            )
            quiet("quantize", "gap", "--images", scratch, "--max-drop", "100", store=store)
        quiet("quantize", "gap", "--to", "bf16", store=store)

    return _kept(folder, "bench_lowered", make)


def only(folder: Path, store: Store, head: str) -> Store:
    """A store with this head of another alone; its files are links."""
    return _kept(folder, f"bench_only_{head}", lambda one: _link(store, head, one))


def plain(folder: Path) -> Path:
    """The model of `thousand` as it was saved; beside it what OpenVINO makes of it, and labels."""
    model = folder / "bench_plain" / "model.keras"
    if not model.exists():
        store = thousand(folder)
        card = store.read_card("gap", 1)
        model.parent.mkdir(exist_ok=True)
        model.with_name("labels.txt").write_text("\n".join(card.labels))
        source, graph = str(store.source_of(card)), str(model.with_suffix(".xml"))
        in_child(
            f"import {QUIET}, keras, openvino as ov; "
            f"graph = ov.convert_model(keras.models.load_model({source!r})); "
            f"ov.save_model(graph, {graph!r}, compress_to_fp16=False)"
        )
        shutil.copyfile(source, model)
    return model


def quiet(*words: str | Path, store: Store) -> None:
    """A command on a store, in a process of its own."""
    done = run(*map(str, words), "--store-dir", str(store.root))
    assert done.returncode == 0, done.stderr


def make_thousand(store: Store) -> None:
    from keras_models import imagenet_classifier

    _publish(store, imagenet_classifier(), {head: decode for decode, head in THOUSAND.items()})


def make_pair(store: Store, classes: int) -> None:
    from keras_models import imagenet_classifier

    from service.lab.backbones.imagenet import untied

    model = imagenet_classifier(classes)
    _publish(store, model, {"gap": "exact"})
    _publish(store, untied(model), {"flatten": "exact"})


def _kept(folder: Path, name: str, make: Callable[[Store], None]) -> Store:
    """The store of that name, made whole before it has the name."""
    store = Store(folder / name, folder / "cache")
    if not store.heads():
        unfinished = Store(folder / f"{name}.unfinished", folder / "cache")
        shutil.rmtree(unfinished.root, ignore_errors=True)
        unfinished.root.mkdir()
        make(unfinished)
        unfinished.root.rename(store.root)
    return store


def _built(store: Store, make: str, *arguments: object) -> None:
    """By a function of this module, in a child."""
    opened = f"Store(Path({str(store.root)!r}), Path({str(store.cache)!r}))"
    words = ", ".join([opened, *map(repr, arguments)])
    in_child(f"import {QUIET}; from bench.stores import *; {make}({words})")


def _link(store: Store, head: str, to: Store) -> None:
    for name in (".compiled", head):
        shutil.copytree(store.root / name, to.root / name, copy_function=os.link)


def _publish(store: Store, model, decodes: dict[str, str]) -> None:
    from service.lab.models.opening import open_source
    from service.lab.models.publishing import Description, publish

    labels = tuple(f"class {number}" for number in range(model.output_shape[-1]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        model.save(file)
        for head, decode in decodes.items():
            publish(
                store,
                open_source(file),
                Description(
                    head=head,
                    labels=labels,
                    size=(SIDE, SIDE),
                    origin="imported",
                    decode=decode,
                    preprocessing=PREPROCESSING["caffe"],
                ),
            )
