"""What several tests of the lab need: answers of compiled files, a look at a store, ImageNet's heads."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from process import in_child, initialised, peak_mb

from service.serving.engines import EngineName, open_engine
from service.store.card import Card
from service.store.layout import Store

PILE_MB = 100


@pytest.fixture(scope="session")
def tensorflow_is_settled() -> list[float]:
    """What its import makes stays for good: Python need not look through it for garbage.

    The peak memory after it, in millions of bytes, in a list for those of later.
    """
    import keras  # noqa: F401 (only to import TensorFlow)

    gc.collect()
    gc.freeze()
    return [peak_mb()]


@pytest.fixture(autouse=True)
def few_models_are_left(tensorflow_is_settled: list[float]) -> Iterator[None]:
    """Models are cycles: those of many tests would pile up before Python looks for them.

    They are looked for whenever this process has needed more memory than ever before, by PILE_MB.
    """
    yield
    if peak_mb() > tensorflow_is_settled[-1] + PILE_MB:
        gc.collect()
        tensorflow_is_settled.append(peak_mb())


@pytest.fixture(scope="session")
def answer() -> Callable[..., dict[int, np.ndarray]]:
    """By batch size, the probabilities of pixels by the compiled files of a version."""

    def answer(
        store: Store, card: Card, engine: EngineName, pixels: np.ndarray, batches: tuple[int, ...]
    ) -> dict[int, np.ndarray]:
        opened = open_engine(engine, 2)
        backbone, head = (
            opened.open(store.compiled(digest, engine))
            for digest in (card.backbone.digest, card.structure.digest)
        )
        return {
            batch: np.concatenate(
                [head(backbone(pixels[at : at + batch])).copy() for at in range(0, len(pixels), batch)]
            )
            for batch in batches
        }

    return answer


@pytest.fixture(scope="session")
def imagenet_weights(tmp_path_factory) -> Path:
    """Made-up weights of Keras' ResNet50 in a file, as a person without network would bring it."""
    path = tmp_path_factory.mktemp("weights") / "resnet50.weights.h5"
    in_child(f"import keras_models; keras_models.imagenet_classifier().save_weights({str(path)!r})")
    return path


@pytest.fixture(scope="session")
def imagenet_model(imagenet_weights):
    """Keras' ResNet50 with its 1000 classes and those weights."""
    import keras

    model = keras.applications.ResNet50(weights=None)
    model.load_weights(imagenet_weights)
    return model


@pytest.fixture(scope="session")
def imagenet_store(imagenet_weights, tmp_path_factory) -> Store:
    """What `init --weights PATH` makes of it: half a gigabyte, so once a run."""
    return initialised(tmp_path_factory.mktemp("imagenet"), str(imagenet_weights))
