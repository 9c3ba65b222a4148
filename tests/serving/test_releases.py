"""Stores that earlier releases wrote serve as they did, and what this release writes they keep out.

tests/store/releases/VERSION holds a store as that release wrote it, and its card.py.
"""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from process import in_child
from stored import load_real, serving

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


def answer(head):
    pixels = decode(head.card.golden.image, head.card.input, 10**6)
    return head.network(head.backbone.network.another()(pixels[np.newaxis]))[0].copy()


def test_a_released_store_serves_without_a_change(store, snapshot):
    before = snapshot(store.root)
    heads = load_real(store)
    assert serving(heads) == VERSIONS
    for one in heads.serving().values():
        tolerance = one.card.golden.tolerance / 10
        np.testing.assert_allclose(answer(one), one.card.golden.probabilities, rtol=0, atol=tolerance)
        store.read_card(one.card.head, one.card.version)
    assert snapshot(store.root) == before


def test_a_new_head_of_equal_input_shares_the_released_backbone_and_answers_to_the_bit(store, snapshot):
    before = snapshot(store.root)
    in_child(AS_NEW.format(folder=str(store.root.parent)))
    after = snapshot(store.root)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"new"}
    heads = load_real(store)
    gap, new = heads.get("gap"), heads.get("new")
    assert gap.backbone is new.backbone is heads.get("flatten").backbone
    np.testing.assert_array_equal(answer(gap), answer(new))


def test_a_released_server_keeps_a_new_card_out_and_serves_the_version_before(store, monkeypatch):
    with staged(store.root) as folder:
        shutil.copytree(store.folder("gap", 1), folder, dirs_exist_ok=True)
        publish_version(store, folder, store.card("gap", 1))
    assert serving(load_real(store))["gap"] == 2
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

    heads = load_real(OldStore(store.root, store.cache))
    assert serving(heads) == VERSIONS
    assert "card.json is not valid at schema_version" in heads.statuses["gap"].failures[2]
    assert CARD in heads.statuses["gap"].failures[2]
