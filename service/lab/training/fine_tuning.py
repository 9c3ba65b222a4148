"""Fine-tunes heads together with the last stages of the backbone, which they then do not share."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
from numpy.typing import NDArray

from service.errors import CommandError
from service.lab.checks import TUNED
from service.lab.data.features import Decoded
from service.lab.data.photographs import Photograph
from service.lab.training.fitting import Fit, Fitted, cross_entropy
from service.lab.training.pooled import Classes, Values
from service.store.card import Epoch

# Layer name prefixes in keras.applications' ResNet50, last stage first.
STAGES = ("conv5_", "conv4_", "conv3_", "conv2_")
EPOCHS = 5
LEARNING_RATE = 1e-5


@dataclass(frozen=True)
class Tuner:
    """Trains the last `stages` of `backbone` (uint8 pixels -> features), except batch normalization."""

    backbone: keras.Model
    decoded: Decoded
    train: Sequence[Photograph]
    validation: Sequence[Photograph]
    stages: int

    def tune(self, fitted: Fitted) -> Generator[None, None, Fitted]:
        """Continues every fit of a head; the new models take pixels. Yields after each epoch."""
        started = time.monotonic()
        fits = []
        for fit in fitted.fits:
            fits.append((yield from self._tune(fit)))
        spec = replace(fitted.spec, name=fitted.spec.name + TUNED)
        return Fitted(spec, tuple(fits), time.monotonic() - started, self.stages)

    def _tune(self, fit: Fit) -> Generator[None, None, Fit]:
        keras.utils.set_random_seed(fit.seed)
        model = self._unfrozen(fit.model)
        model.compile(
            keras.optimizers.AdamW(LEARNING_RATE, weight_decay=fit.weight_decay),
            "sparse_categorical_crossentropy",
        )
        rng, order = np.random.default_rng(fit.seed), list(self.train)
        curve: list[Epoch] = []
        for _ in range(EPOCHS):
            rng.shuffle(order)
            model.reset_metrics()
            for pixels, labels in self._batches(order):
                loss = model.train_on_batch(pixels, labels)
            curve.append(self._validated(model, float(loss)))
            if curve[-1].validation_loss <= min(epoch.validation_loss for epoch in curve):
                weights = model.get_weights()
            yield
        model.set_weights(weights)
        return replace(
            fit,
            model=model,
            learning_rate=LEARNING_RATE,
            curve=tuple(curve),
            validation_loss=min(epoch.validation_loss for epoch in curve),
        )

    def _unfrozen(self, head: keras.Model) -> keras.Model:
        """A copy of backbone and head as one model: pixels -> probabilities."""
        backbone, own_head = _copy(self.backbone), _copy(head)
        last = last_stages(backbone, self.stages)
        for layer in backbone._flatten_layers():
            layer.trainable = layer in last and not isinstance(layer, keras.layers.BatchNormalization)
        return keras.Model(backbone.inputs[0], own_head(backbone.outputs[0]))

    def _batches(self, ones: Sequence[Photograph]) -> Iterator[tuple[NDArray[np.uint8], Classes]]:
        for read, pixels in self.decoded.batches(ones):
            yield pixels, np.array([one.label for one in read])

    def _validated(self, model: keras.Model, train_loss: float) -> Epoch:
        told: list[tuple[Values, Classes]] = [
            (model.predict_on_batch(pixels), labels) for pixels, labels in self._batches(self.validation)
        ]
        probabilities, labels = (np.concatenate(parts) for parts in zip(*told, strict=True))
        return cross_entropy(train_loss, probabilities, labels)


def last_stages(backbone: keras.Model, stages: int) -> list[keras.layers.Layer]:
    """The layers of the last `stages`. Raises CommandError if their names are not ResNet50's."""
    layers = backbone._flatten_layers()
    if last := [layer for layer in layers if layer.name.startswith(STAGES[:stages])]:
        return last
    raise CommandError("The backbone has no stages named as those of Keras' ResNet50 to tune.")


def _copy(model: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
