"""`resnet-heads init`: fills an empty store with a `gap` and a `flatten` head."""

import service.serving.engines.quiet_tensorflow  # noqa: F401 (before Keras)

# isort: split

import tempfile
from pathlib import Path

import keras

from service.console import say
from service.errors import CommandError
from service.lab.backbones import demo, imagenet
from service.lab.checks import check_init
from service.lab.models.opening import open_source
from service.lab.models.publishing import Description, publish
from service.store.card import PREPROCESSING, Card
from service.store.layout import MODEL, Store

ONLY_COST = "the same function as gap with untied weights: it answers alike and differs in cost only"


def fill(store: Store, weights: str | None) -> list[Card]:
    """Publishes both heads. `weights` is `imagenet`, `demo`, or the path of a weights file.

    None means ImageNet, or the demo if the download fails. Raises CommandError.
    """
    check_init(store, weights)
    if weights == "demo":
        return _demo(store)
    if weights not in (None, "imagenet"):
        return _imagenet(store, imagenet.from_file(Path(str(weights))))
    try:
        gap = imagenet.downloaded()
    except CommandError as exc:
        if weights:
            raise
        say(f"{exc} Building the offline demo instead: two heads on an untrained backbone.")
        return _demo(store)
    return _imagenet(store, gap)


def _imagenet(store: Store, gap: keras.Model) -> list[Card]:
    """Publishes Keras' classifier, resized as for its ImageNet scores, and its Flatten equivalent."""

    def description(head: str, *notes: str) -> Description:
        return Description(
            head=head,
            labels=imagenet.labels(),
            size=imagenet.SIZE,
            origin="imagenet",
            resize="center_crop",
            preprocessing=PREPROCESSING["caffe"],
            notes=notes,
        )

    return [
        _publish(store, gap, description("gap")),
        _publish(store, imagenet.untied(gap), description("flatten", ONLY_COST)),
    ]


def _demo(store: Store) -> list[Card]:
    cards = []
    for head in demo.demo_heads():
        description = Description(
            head=head.name,
            labels=demo.LABELS,
            size=(demo.SIDE, demo.SIDE),
            origin="demo",
            decode=demo.INPUT.decode,
            resize=demo.INPUT.resize,
            preprocessing=demo.INPUT.preprocessing,
            notes=("a demo on an untrained backbone: it knows coloured discs in corners, nothing else",),
            training=head.training,
        )
        cards.append(_publish(store, head.model, description))
    return cards


def _publish(store: Store, model: keras.Model, description: Description) -> Card:
    """Saves the model outside the store, and publishes the file like any imported one."""
    say(f"Publishing {description.head} ...")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / MODEL
        model.save(file)
        return publish(store, open_source(file), description)
