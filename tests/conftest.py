"""Stores that many tests read. Each is built once a run; tests that damage one copy it first."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from service.store.layout import BENCHMARK, Store

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a background job; children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """`gap` and `flatten` on one backbone at 64x64, 5 classes, by way of `import`."""
    from keras_models import LABELS, classifier, keras, save

    from service.lab.models.importing import Wishes, import_model

    folder = tmp_path_factory.mktemp("small")
    store = Store(folder / "store", folder / "cache")
    store.root.mkdir()
    (folder / "labels.txt").write_text("\n".join(LABELS))
    poolings = {"gap": keras.layers.GlobalAveragePooling2D(), "flatten": keras.layers.Flatten()}
    for head, pooling in poolings.items():
        file = save(classifier(pooling), folder, head)
        import_model(store, file, Wishes(head=head, labels=folder / "labels.txt", resize="bilinear"))
    return store


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Store], Store]:
    """A copy of a store that a test may damage."""

    def copy(store: Store) -> Store:
        unmeasured = shutil.ignore_patterns(BENCHMARK)  # whatever other tests have measured in it
        shutil.copytree(store.root, tmp_path / "store", ignore=unmeasured)
        return Store(tmp_path / "store", tmp_path / "cache")

    return copy


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What `make run` builds where ImageNet's weights cannot be had."""
    from service.lab.init import fill

    folder = tmp_path_factory.mktemp("demo")
    store = Store(folder / "model_store", folder / "cache")
    fill(store, "demo")
    return store
