"""`resnet-heads compile`: derives the files an engine opens, again, from model.keras."""

import contextlib

from service.lab import compile as compiling
from service.lab.models import load_model
from service.lab.split import split
from service.serving.engines import EngineName
from service.store.card import Card
from service.store.layout import NotCompiled, Store


def recompile(store: Store, head: str, version: int, engine: EngineName) -> Card:
    """Writes what is missing or damaged for a version. Raises VersionError or CommandError.

    An int8 graph is never derived here: what made it, the calibration pictures, is not in the store.
    """
    card = store.card(head, version)
    with contextlib.suppress(NotCompiled):
        store.backbone_of(card, engine)
        store.head_of(card, engine)
        return card
    model = load_model(store.model_of(card))
    cut = split(model, (card.input.height, card.input.width), card.input.preprocessing)
    networks = {card.structure.digest: cut.head}
    if card.quantization is None:
        networks[card.backbone.digest] = cut.backbone
    for digest, network in networks.items():
        if engine == "keras":
            compiling.store_keras(store, network, digest)
        else:
            compiling.store_openvino(store, compiling.to_openvino(network), digest)
    return card
