"""What is attacked: the whole application, on heads in numpy or on a real ResNet50."""

import time

from fakes import LinearHead, MeanBackbone, backbone, fake_heads, head
from fastapi import FastAPI

from service.app import create_app
from service.settings import Settings
from service.store.layout import Store

# nothing is refused for being one too many: only what is in a request decides about it
PATIENT = {"max_queued_images": 10_000, "max_wait_s": 1000, "page": False}


class Crowded(MeanBackbone):
    """Slow enough for pictures to wait for each other. `shared` counts its batches of several."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = 0

    def compute(self, batch):
        self.batches.clear()  # a test of memory must not keep them
        self.shared += len(batch) > 1
        time.sleep(0.002)
        return super().compute(batch)


def on_fakes(network: MeanBackbone) -> FastAPI:
    """`gap` and `flatten` on this backbone."""
    shared = backbone(network)
    heads = (head("gap", LinearHead(), on=shared), head("flatten", LinearHead(), on=shared))
    return create_app(Settings(**PATIENT), heads_=fake_heads(*heads))


def on_store(store: Store) -> FastAPI:
    """The heads of a store, on their engine."""
    return create_app(Settings(store_dir=store.root, cache_dir=store.cache, **PATIENT))
