"""What is served while `make bench` measures: built once, and kept with the virtual environment."""

import tempfile
from pathlib import Path

from service.store.card import PREPROCESSING
from service.store.layout import Store

SIDE = 224
THOUSAND = {"exact": "gap", "scaled": "scaled"}  # head by how it decodes


def demo(folder: Path) -> Store:
    """What `make run` builds without a network: `gap` and `flatten`, sharing, 16 classes."""
    store = Store(folder / "demo_store", folder / "cache")
    if not store.heads():
        from service.lab.init import fill

        fill(store, "demo")
    return store


def thousand(folder: Path) -> Store:
    """One GAP head of 1000 classes, twice. They do not share a backbone: their input differs."""
    store = Store(folder / "bench_store", folder / "cache")
    if not store.heads():
        from keras_models import imagenet_classifier

        _publish(store, imagenet_classifier(), {head: decode for decode, head in THOUSAND.items()})
    return store


def pair(folder: Path, classes: int) -> Store:
    """`gap` and `flatten` of that many classes, which compute the same function."""
    store = Store(folder / f"bench_pair_{classes}", folder / "cache")
    if not store.heads():
        from keras_models import imagenet_classifier

        from service.lab.backbones.imagenet import untied

        model = imagenet_classifier(classes)
        _publish(store, model, {"gap": "exact"})
        _publish(store, untied(model), {"flatten": "exact"})
    return store


def _publish(store: Store, model, decodes: dict[str, str]) -> None:
    from service.lab.models.publishing import Description, publish

    store.root.mkdir(exist_ok=True)
    labels = tuple(f"class {number}" for number in range(model.output_shape[-1]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        model.save(file)
        for head, decode in decodes.items():
            publish(
                store,
                file,
                Description(
                    head=head,
                    labels=labels,
                    size=(SIDE, SIDE),
                    origin="imported",
                    decode=decode,
                    preprocessing=PREPROCESSING["caffe"],
                ),
            )
