"""`resnet-heads compile`: derives the files an engine opens, again, from model.keras."""

from service.lab import compile as compiling
from service.lab.models import load_model
from service.lab.split import split
from service.serving.engines import EngineName
from service.store.card import Card
from service.store.layout import MODEL, Store


def recompile(store: Store, head: str, version: int, engine: EngineName) -> Card:
    """Writes what is missing or damaged for a version. Raises VersionError or CommandError."""
    card = store.read_card(head, version)
    model = load_model(store.folder(head, version) / MODEL)
    cut = split(model, (card.input.height, card.input.width), card.input.preprocessing)
    for network, digest in ((cut.backbone, card.backbone.digest), (cut.head, card.structure.digest)):
        if engine == "keras":
            compiling.store_keras(store, network, digest)
        else:
            compiling.store_openvino(store, compiling.to_openvino(network), digest)
    return card
