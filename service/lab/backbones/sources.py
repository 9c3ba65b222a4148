"""The frozen backbone of a training: the source of its weights, and its compiled copy.

Building a backbone takes seconds, so the cache remembers what is known of it: a run whose features are
on disk needs the backbone only in its last step.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import openvino as ov
from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import CommandError
from service.lab.backbones import demo, imagenet
from service.lab.checks import check_weights
from service.lab.data.features import Decoded
from service.lab.data.photographs import Photograph
from service.lab.models.compile import digest_of, to_openvino
from service.lab.models.formats import recognise
from service.lab.models.graph import MAP_RANK, inline
from service.lab.models.opening import open_source, open_version
from service.lab.models.split import Split, split
from service.lab.models.structure.head import head_of
from service.serving.engines import Network
from service.serving.engines.openvino import OpenVinoEngine
from service.serving.host import available_cores
from service.store.card import Input, Preprocessing
from service.store.layout import Store, sha256_of

CALIBRATION_PICTURES = 16


class Known(BaseModel):
    """What the cache remembers of a backbone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    preprocessing: Preprocessing
    feature_shape: tuple[int, int, int]


@dataclass
class BackboneSource:
    """A backbone that `build` makes on demand, with some head; equal `identity`, equal backbone.

    `preprocessing` None: that of the family that it is of, unless it has its own.
    """

    name: str
    identity: str
    size: tuple[int, int]
    build: Callable[[], keras.Model]
    memory: Path
    preprocessing: Preprocessing | None = None

    @cached_property
    def cut(self) -> Split:
        """The Keras model, cut into backbone and head; built on first use."""
        return split(self.build(), self.size, self.preprocessing)

    @cached_property
    def network(self) -> Network:
        """The backbone compiled by OpenVINO: uint8 pixels -> float32 features."""
        return OpenVinoEngine(available_cores()).compile(self._graph)

    @cached_property
    def known(self) -> Known:
        """Digest, preprocessing and feature shape, from the cache if the backbone was built before."""
        versions = f"keras {keras.__version__} openvino {ov.__version__}"
        told = f"{self.identity} {self.size} preprocessing {self.preprocessing} {versions}"
        file = self.memory / f"{hashlib.sha256(told.encode()).hexdigest()}.json"
        try:
            return Known.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            known = Known(
                digest=digest_of(self._graph),
                preprocessing=self.cut.preprocessing,
                feature_shape=self.cut.feature_shape,
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(known.model_dump_json(), "utf-8")
        return known

    @cached_property
    def _graph(self) -> ov.Model:
        return to_openvino(self.cut.backbone)


def source(weights: str, store: Store, spec: Input, pictures: Sequence[Photograph]) -> BackboneSource:
    """Resolves `--weights`: imagenet, random, a head of the store, or a file. Raises CommandError.

    `random` is an untrained network whose batch statistics are calibrated on the first of `pictures`.
    `spec` says how they are decoded; its preprocessing does not matter here.
    """
    check_weights(store, weights)
    size = (spec.height, spec.width)

    def made(
        identity: str,
        build: Callable[[], keras.Model],
        name: str = weights,
        preprocessing: Preprocessing | None = None,
    ) -> BackboneSource:
        return BackboneSource(name, identity, size, build, store.cache / "backbones", preprocessing)

    if weights == "imagenet":
        return made(weights, lambda: _topped(imagenet.backbone(imagenet.downloaded(), size)))
    if weights == "random":
        # Take twice as many as needed: some may be broken.
        chosen = list(pictures[: 2 * CALIBRATION_PICTURES])
        identity = f"random {spec.model_dump_json()} {[one.sha256 for one in chosen]}"
        return made(identity, lambda: _topped(_untrained(chosen, spec)))
    if weights in store.heads():
        version = store.versions(weights)[0]
        card = store.read_card(weights, version)
        sha256 = " ".join(card.source.files.values())
        return made(
            f"model {sha256}",
            lambda: _retopped(open_version(store, card).model, size),
            f"head {weights} version {version}",
            card.input.preprocessing,
        )
    file = Path(weights)
    return made(f"model {sha256_of(file)}", lambda: _from_file(file, size), file.name)


def _from_file(file: Path, size: tuple[int, int]) -> keras.Model:
    if _holds_weights_alone(file):
        return _topped(imagenet.backbone_from(file, size))
    model = open_source(file).model
    return _topped(model) if len(model.output_shape) == MAP_RANK else _retopped(model, size)


def _holds_weights_alone(file: Path) -> bool:
    try:
        recognise(file)
    except CommandError:
        return file.suffix != ".keras"
    return False


def _untrained(pictures: Sequence[Photograph], spec: Input) -> keras.Model:
    batches = [pixels for _, pixels in Decoded(spec, available_cores()).batches(pictures)]
    if not batches:
        raise CommandError("None of the first pictures can be read.")
    keras.utils.set_random_seed(demo.SEED)
    return demo.calibrated(np.concatenate(batches)[:CALIBRATION_PICTURES])


def _retopped(model: keras.Model, size: tuple[int, int]) -> keras.Model:
    """Puts another head on the backbone of a model, because what its own ends in does not matter."""
    flat = inline(model, size)
    return _topped(keras.Model(flat.inputs[0], head_of(flat).features))


def _topped(features: keras.Model) -> keras.Model:
    """Adds a head to the features, because only a whole model can be cut."""
    pooled = keras.layers.GlobalAveragePooling2D()(features.outputs[0])
    return keras.Model(features.inputs[0], keras.layers.Dense(2, activation="softmax")(pooled))
