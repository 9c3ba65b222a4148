"""Heads in numpy, for tests where the engine does not matter. No TensorFlow, no OpenVINO.

A picture of one colour gets the label of that colour: backbones pass on the mean of red, green and
blue, heads say which share each of them has.

    app = create_app(Settings(), heads_=fake_heads())                     gap and flatten, sharing
    app = create_app(Settings(), heads_=fake_heads(head("slow", SlowHead(0.2))))
"""

import copy
import hashlib
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from image_files import encoded
from PIL import Image
from waiting import PATIENCE_S

from service.errors import CannotExplain, VersionError
from service.serving.explain.layers import Dense, Reshaped
from service.serving.heads import Heads
from service.serving.loading import LoadedBackbone, LoadedHead, batch_sizes
from service.store.card import (
    PREPROCESSING,
    Backbone,
    Card,
    Golden,
    Input,
    Output,
    Quantization,
    Source,
    Structure,
)
from service.store.layout import MODEL, Store
from service.store.publish import publish_compiled, publish_version, staged

SIDE = 8
LABELS = ("red", "green", "blue")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
INPUT = Input(
    height=SIDE, width=SIDE, decode="exact", resize="bilinear", preprocessing=PREPROCESSING["none"]
)


class FakeNetwork:
    """Remembers its batches in `batches`. As an engine's: an answer is lost with the next call."""

    def __init__(self):
        self.batches = []
        self._answer = np.empty(0, np.float32)
        self._running = threading.Lock()

    def __call__(self, batch):
        assert self._running.acquire(blocking=False), "calls overlap"
        try:
            self.batches.append(batch.copy())
            self._answer.fill(np.nan)
            self._answer = self.compute(batch).astype(np.float32)
            return self._answer
        finally:
            self._running.release()

    def another(self):
        twin = copy.copy(self)
        twin._running = threading.Lock()
        return twin

    @property
    def sizes(self):
        """How many images were in each batch so far."""
        return [len(batch) for batch in self.batches]

    def compute(self, batch):
        raise NotImplementedError


class MeanBackbone(FakeNetwork):
    """uint8 (n, h, w, 3) -> the mean colour, (n, 1, 1, 3)."""

    def compute(self, batch):
        return batch.mean(axis=(1, 2), keepdims=True)


class HeldBackbone(MeanBackbone):
    """Stays in each call until `release` is set; `entered` tells that a call has begun."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Event()
        self.release = threading.Event()

    def compute(self, batch):
        self.entered.set()
        assert self.release.wait(PATIENCE_S), "nobody released the engine"
        return super().compute(batch)


class FakeHead(FakeNetwork):
    """A head that cannot be explained, unless a class below knows better."""

    def logits(self):
        return np.log(self._answer)

    @property
    def layers(self):
        raise CannotExplain("it is a fake.")


class EchoHead(FakeHead):
    """(n, 1, 1, 3) -> the shares of red, green and blue, (n, 3)."""

    def compute(self, batch):
        shares = batch.reshape(len(batch), -1) + 1e-6
        return shares / shares.sum(axis=1, keepdims=True)


class LinearHead(FakeHead):
    """(n, 1, 1, 3) -> softmax of a hundredth of each colour, and one tenth for red."""

    layers = (
        Reshaped((3,)),
        Dense(np.eye(3, dtype=np.float32) / 100, np.array([0.1, 0, 0], np.float32)),
    )

    def compute(self, batch):
        self._logits = batch.reshape(len(batch), 3) / 100 + np.array([0.1, 0, 0])
        return np.exp(self._logits) / np.exp(self._logits).sum(axis=1, keepdims=True)

    def logits(self):
        return self._logits.astype(np.float32)


class SlowHead(EchoHead):
    """Takes `seconds` for each batch."""

    def __init__(self, seconds):
        super().__init__()
        self._seconds = seconds

    def compute(self, batch):
        time.sleep(self._seconds)
        return super().compute(batch)


class BrokenHead(FakeHead):
    """Fails, as an engine out of memory does."""

    def compute(self, batch):  # noqa: ARG002 (it fails whatever it is given)
        raise RuntimeError("broken on purpose")


class FakeEngine:
    """Opens networks by the first sign of their digest: `nb=` a backbone's, `ne=` a head's.

    An exception given as network is raised; what is not given is mean colours and their shares.
    """

    name = "openvino"

    def __init__(self, **networks):
        self.opened = []
        self.networks = networks

    def computes_in(self, precision):
        return precision

    def open(self, folder, precision="f32"):  # noqa: ARG002 (fakes compute as they do)
        sign = folder.parent.name[0]
        self.opened.append(sign)
        network = self.networks.get(f"n{sign}")
        if isinstance(network, Exception):
            raise network
        return network or (MeanBackbone() if sign == "b" else EchoHead())

    def open_head(self, folder):
        return self.open(folder)


class FakeStore:
    """A store that knows which versions there are, and that never changes."""

    def __init__(self, versions):
        self._versions = versions

    def heads(self):
        return sorted(self._versions)

    def versions(self, name):
        return sorted(self._versions[name], reverse=True)

    def stamp(self, *_):
        return ()


class FakeLoader:
    """Has every version open already: its head, or the reason why it stays out."""

    engine = FakeEngine()

    def __init__(self, versions):
        self._versions = versions

    def load(self, name, version):
        found = self._versions[name][version]
        if isinstance(found, str):
            raise VersionError(found)
        return found

    def keep(self, _):
        """Nothing is forgotten."""

    def warm_up(self, *_):
        """All are warm."""


def fake_heads(
    *heads: LoadedHead,
    failed: Mapping[str, Mapping[int, str]] = {},
    hold: threading.Event | None = None,
    error: Exception | None = None,
) -> Heads:
    """The given heads, or else `gap` and `flatten` on one backbone; not loaded yet: create_app does.

    `failed` are reasons by head and version, for heads with or without a version that serves. With
    `hold`, loading lasts until it is set; with `error`, loading fails.
    """
    if not heads and not failed:
        shared = backbone()
        heads = (head("gap", on=shared), head("flatten", on=shared))
    versions: dict[str, dict[int, LoadedHead | str]] = {name: dict(failed[name]) for name in failed}
    for one in heads:
        versions.setdefault(one.card.head, {})[one.card.version] = one

    def open_loader():
        if hold is not None:
            assert hold.wait(PATIENCE_S), "nobody let the heads load"
        if error is not None:
            raise error
        return FakeLoader(versions)

    return Heads(FakeStore(versions), open_loader)


def explainable() -> tuple[LoadedHead, LoadedHead]:
    """`gap`, which can be explained, and `flatten`, which cannot, on one backbone."""
    shared = backbone()
    return head("gap", LinearHead(), on=shared), head("flatten", on=shared)


def backbone(
    network=None, spec: Input = INPUT, digest: str = "b" * 64, max_batch_size: int = 8
) -> LoadedBackbone:
    """A loaded backbone that is warm: by default the mean colour of pictures decoded to 8x8."""
    return LoadedBackbone(digest, spec, "f32", network or MeanBackbone(), batch_sizes(max_batch_size))


def head(name: str, network=None, on: LoadedBackbone | None = None, **changes) -> LoadedHead:
    """A loaded head on a backbone of its own or on a given one; `changes` are fields of its card."""
    base = on or backbone()
    of_backbone = Backbone(digest=base.digest, parameters=100, feature_shape=(1, 1, 3))
    fields = {"input": base.input, "backbone": of_backbone} | changes
    return LoadedHead(card(name, **fields), base, network or EchoHead())


def card(name: str = "gap", **changes) -> Card:
    """A valid card of version 1; `changes` are fields."""
    fields = {
        "head": name,
        "version": 1,
        "created": datetime(2026, 1, 2, tzinfo=UTC),
        "source": source("0" * 64),
        "input": INPUT,
        "output": Output(activation="softmax", to_probabilities="identity"),
        "labels": LABELS,
        "backbone": Backbone(digest="b" * 64, parameters=100, feature_shape=(1, 1, 3)),
        "structure": structure(),
        "origin": "imported",
        "golden": Golden.model_construct(image=picture("red"), probabilities=(1.0, 0.0, 0.0)),
    }
    return Card(**(fields | changes))


def structure(pooling="gap", parameters=12, **fields) -> Structure:
    """That of a head whose dense layers have so many parameters; `fields` are others of it."""
    fields = {"digest": "e" * 64, "weight_bytes": 4 * parameters} | fields
    return Structure(pooling=pooling, parameters=parameters, **fields)


def source(sha256: str, size: int | None = None) -> Source:
    """A `.keras` file of that content."""
    return Source(format="keras", files={MODEL: sha256}, bytes=size)


INT8_GRAPH = b"a graph"


def quantization(**changes) -> Quantization:
    """That of an int8 head; `changes` are fields."""
    fields = {
        "source_head": "gap",
        "source_version": 1,
        "files": {"network.xml": hashlib.sha256(INT8_GRAPH).hexdigest()},
        "built_with": "fakes 1",
        "weight_bytes": 25,
        "images_calibration": 4,
        "images_test": 2,
        "data": "0" * 64,
        "accuracy_before": 1.0,
        "accuracy_after": 0.5,
        "agreement": 0.5,
        "max_drop": 50.0,
    }
    return Quantization(**(fields | changes))


def picture(colour: str | tuple[int, int, int] = "red", size=(SIDE, SIDE), kind="PNG") -> bytes:
    """An image file of one colour."""
    return encoded(Image.new("RGB", size, COLOURS.get(colour, colour)), kind)


def publish(store: Store, name: str = "gap", model: bytes = b"a model", **changes) -> Card:
    """Publishes a version whose model file holds `model`; returns its card, with its number."""
    with staged(store.root) as folder:
        (folder / MODEL).write_bytes(model)
        if changes.get("precision") == "int8":
            (folder / "network.xml").write_bytes(INT8_GRAPH)
        kept = source(hashlib.sha256(model).hexdigest())
        return publish_version(store, folder, card(name, **({"source": kept} | changes)))


def publish_network(store: Store, digest: str, content: bytes = b"a network", engine="openvino") -> Path:
    """Publishes compiled files that hold `content`; returns their folder."""
    with staged(store.derived_root()) as folder:
        (folder / "network.bin").write_bytes(content)
        (folder / "network.xml").write_bytes(content[::-1])
        publish_compiled(store, digest, engine, folder, "fakes 1")
    return store.compiled(digest, engine)
