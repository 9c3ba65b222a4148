"""Trains heads on frozen features, each with the same splits, seeds and grid of hyperparameters.

Every choice is made on the validation split.
"""

import itertools
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from service.lab.data.features import FeatureCache
from service.lab.data.photographs import Photograph
from service.lab.training.head_spec import HeadSpec
from service.lab.training.pooled import TINY, Classes, Moments, PooledFeatures, Values
from service.store.card import Epoch

MAX_EPOCHS = 40
PATIENCE = 5  # Training stops after so many epochs without a better validation loss.
LEARNING_RATES = (1e-4, 1e-3, 1e-2)
WEIGHT_DECAYS = (1e-2, 1.0)  # Decoupled weight decay: multiplied by the learning rate at each step.
GRID = tuple(itertools.product(LEARNING_RATES, WEIGHT_DECAYS))


@dataclass(frozen=True)
class TrainingData:
    """The training and validation data of one head."""

    train: PooledFeatures
    validation: PooledFeatures
    moments: Moments


@dataclass(frozen=True)
class Fit:
    """The result of one training: the head (features -> probabilities) and its learning curve."""

    model: keras.Model
    seed: int
    learning_rate: float
    weight_decay: float
    curve: tuple[Epoch, ...]
    validation_loss: float


@dataclass(frozen=True)
class Fitted:
    """One head trained from every seed, with the hyperparameters chosen for it."""

    spec: HeadSpec
    fits: tuple[Fit, ...]
    seconds: float
    # Stages of the backbone that are trained too; then models take pixels, not features.
    tuned_stages: int = 0

    @property
    def best(self) -> Fit:
        """The fit with the lowest validation loss."""
        return min(self.fits, key=lambda fit: fit.validation_loss)


@dataclass(frozen=True)
class Trainer:
    """The data, seeds and grid with which every head is trained."""

    cache: FeatureCache
    train: Sequence[Photograph]
    validation: Sequence[Photograph]
    classes: int
    seeds: Sequence[int]
    grid: Sequence[tuple[float, float]] = GRID  # learning rate, weight decay

    def trainings(self) -> int:
        """The number of trainings that `fit` needs for a head."""
        return len(self.grid) + len(self.seeds) - 1

    def fit(self, spec: HeadSpec) -> Generator[None, None, Fitted]:
        """Chooses hyperparameters with the first seed, and trains with them from the other seeds.

        Yields after each training.
        """
        started = time.monotonic()
        data = self._data(spec)
        first: Fit | None = None
        for setting in self.grid:
            fit = self._fit(spec, data, self.seeds[0], *setting)
            first = min(first or fit, fit, key=lambda fit: fit.validation_loss)
            yield
        assert first is not None  # noqa: S101 (the grid is not empty)
        others = yield from self._refit(spec, data, first, self.seeds[1:])
        return Fitted(spec, (first, *others), time.monotonic() - started)

    def refit(self, spec: HeadSpec, like: Fit) -> Generator[None, None, tuple[Fit, ...]]:
        """Trains from every seed with the hyperparameters of `like`. Yields after each training."""
        return (yield from self._refit(spec, self._data(spec), like, self.seeds))

    def _refit(
        self, spec: HeadSpec, data: TrainingData, like: Fit, seeds: Sequence[int]
    ) -> Generator[None, None, tuple[Fit, ...]]:
        fits = []
        for seed in seeds:
            fits.append(self._fit(spec, data, seed, like.learning_rate, like.weight_decay))
            yield
        return tuple(fits)

    def _data(self, spec: HeadSpec) -> TrainingData:
        train, validation = (
            PooledFeatures(self.cache, spec, ones) for ones in (self.train, self.validation)
        )
        return TrainingData(train, validation, train.moments())

    def _fit(
        self, spec: HeadSpec, data: TrainingData, seed: int, learning_rate: float, weight_decay: float
    ) -> Fit:
        keras.utils.set_random_seed(seed)
        values = keras.Input((data.train.width,))
        model = keras.Model(values, self._dense(spec, values))
        model.compile(
            keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay),
            "sparse_categorical_crossentropy",
        )
        curve, weights = _descend(model, data, seed)
        model.set_weights(weights)
        return Fit(
            model=self._folded(spec, data.moments, model),
            seed=seed,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            curve=curve,
            validation_loss=min(epoch.validation_loss for epoch in curve),
        )

    def _dense(self, spec: HeadSpec, values: keras.KerasTensor) -> keras.KerasTensor:
        """Adds the Dense layers: pooled values -> probabilities."""
        for units in spec.hidden_units:
            values = keras.layers.Dense(units, "relu")(values)
            if spec.dropout:
                values = keras.layers.Dropout(spec.dropout)(values)
        if spec.dropout and not spec.hidden_units:
            values = keras.layers.Dropout(spec.dropout)(values)
        return keras.layers.Dense(self.classes, "softmax", name="predictions")(values)

    def _folded(self, spec: HeadSpec, moments: Moments, trained: keras.Model) -> keras.Model:
        """The head (features -> probabilities) with the standardisation folded into its first Dense."""
        features = keras.Input(self.cache.shape, name="features")
        model = keras.Model(features, self._dense(spec, spec.pooled(features)))
        kernel, bias, *others = trained.get_weights()
        scaled = kernel * moments.scale[:, np.newaxis]
        model.set_weights([scaled, bias - moments.mean @ scaled, *others])
        return model


def _descend(
    model: keras.Model, data: TrainingData, seed: int
) -> tuple[tuple[Epoch, ...], list[Values]]:
    """Trains the model. Returns the learning curve, and the weights with the lowest validation loss.

    It calls each batch itself, because `fit` of Keras takes four times as long with steps this short.
    """
    rng, order = np.random.default_rng(seed), np.arange(len(data.train))
    curve: list[Epoch] = []
    weights: list[Values] = []
    best = 0
    while len(curve) < MAX_EPOCHS and len(curve) - best < PATIENCE:
        rng.shuffle(order)
        # Reset the metrics, so that the last batch returns the mean over the epoch.
        model.reset_metrics()
        for values, labels in data.train.batches(order):
            loss = model.train_on_batch(data.moments.standardised(values), labels)
        curve.append(_validated(model, data, float(loss)))
        if curve[-1].validation_loss <= min(epoch.validation_loss for epoch in curve):
            best, weights = len(curve), model.get_weights()
    return tuple(curve), weights


def _validated(model: keras.Model, data: TrainingData, train_loss: float) -> Epoch:
    told = [
        (model.predict_on_batch(data.moments.standardised(values)), labels)
        for values, labels in data.validation.batches()
    ]
    probabilities, labels = (np.concatenate(parts) for parts in zip(*told, strict=True))
    return cross_entropy(train_loss, probabilities, labels)


def cross_entropy(train_loss: float, probabilities: Values, labels: Classes) -> Epoch:
    """A point of the learning curve, from the model's probabilities on the validation split."""
    told = probabilities[np.arange(len(labels)), labels]
    return Epoch(
        train_loss=train_loss,
        validation_loss=float(-np.log(told + TINY).mean()),
        validation_accuracy=float(np.mean(probabilities.argmax(axis=1) == labels)),
    )
