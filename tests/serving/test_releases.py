"""Stores that earlier releases wrote serve as they did, and what this release writes they keep out.

tests/store/releases/VERSION holds a store as that release wrote it, and its card.py.
"""

import hashlib
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from process import in_child

from service.errors import VersionError
from service.serving.engines import open_engine
from service.serving.heads import Heads
from service.serving.pixels.decode import decode
from service.store import layout
from service.store.layout import CARD, Store
from service.store.publish import publish_version, staged

RELEASED = Path(__file__).parent.parent / "store/releases/0.1.0"
VERSIONS = {"flatten": 1, "gap": 1, "gap-int8": 1}
AS_NEW = """
from pathlib import Path
from service.lab.models.importing import ImportOptions, import_model
from service.store.layout import Store
from service.store.card import PREPROCESSING
folder = Path({folder!r})
store = Store(folder / "store", folder / "cache")
labels = folder / "labels.txt"
labels.write_text("\\n".join(store.card("gap", 1).labels))
file = store.folder("gap", 1) / "model.keras"
wishes = ImportOptions("new", labels, resize="bilinear", preprocessing=PREPROCESSING["caffe"])
import_model(store, file, wishes)
"""


@pytest.fixture
def store(tmp_path):
    shutil.copytree(RELEASED / "store", tmp_path / "store")
    return Store(tmp_path / "store", tmp_path / "cache")


def no_rebuild(_store, head, version, engine):
    raise VersionError(f"{head} {version} would be rebuilt for {engine}")


def load(store):
    heads = Heads(store, lambda: open_engine("openvino", 2), 2, no_rebuild)
    heads.load()
    return heads


def serving(heads):
    return {name: one.card.version for name, one in heads.serving().items()}


def files_of(store):
    found = sorted(path for path in store.root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(store.root)): hashlib.sha256(path.read_bytes()).digest() for path in found
    }


def answer(head):
    pixels = decode(head.card.golden.image, head.card.input, 10**6)
    return head.network(head.backbone.network.another()(pixels[np.newaxis]))[0].copy()


def test_a_released_store_serves_without_a_change(store):
    before = files_of(store)
    heads = load(store)
    assert serving(heads) == VERSIONS
    for one in heads.serving().values():
        tolerance = one.card.golden.tolerance / 10
        np.testing.assert_allclose(answer(one), one.card.golden.probabilities, rtol=0, atol=tolerance)
        store.read_card(one.card.head, one.card.version)
    assert files_of(store) == before


def test_a_new_head_of_equal_input_shares_the_released_backbone_and_answers_to_the_bit(store):
    before = files_of(store)
    in_child(AS_NEW.format(folder=str(store.root.parent)))
    after = files_of(store)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"new"}
    heads = load(store)
    gap, new = heads.get("gap"), heads.get("new")
    assert gap.backbone is new.backbone is heads.get("flatten").backbone
    np.testing.assert_array_equal(answer(gap), answer(new))


def test_a_released_server_keeps_a_new_card_out_and_serves_the_version_before(store, monkeypatch):
    with staged(store.root) as folder:
        shutil.copytree(store.folder("gap", 1), folder, dirs_exist_ok=True)
        publish_version(store, folder, store.card("gap", 1))
    assert serving(load(store))["gap"] == 2
    spec = importlib.util.spec_from_file_location("released_card", RELEASED / "card.py")
    released = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(released)

    class OldStore(Store):
        """Reads cards as that release did; what is beside the schema has not changed."""

        def card(self, head, version):
            with monkeypatch.context() as patched:
                patched.setattr(layout, "Card", released.Card)
                card = super().card(head, version)
            return layout.Card.model_validate(card.model_dump(mode="json"))

    heads = load(OldStore(store.root, store.cache))
    assert serving(heads) == VERSIONS
    assert "card.json is not valid at schema_version" in heads.statuses["gap"].failures[2]
    assert CARD in heads.statuses["gap"].failures[2]
