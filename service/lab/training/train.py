"""`resnet-heads train`: trains heads on a folder of photographs and compares them fairly."""

import service.serving.engines.quiet_tensorflow  # noqa: F401 (before Keras)

# isort: split

import contextlib
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import keras

from service.console import finish, say
from service.lab.backbones import sources
from service.lab.checks import check_train
from service.lab.data import photographs
from service.lab.data.features import BATCH, Decoded, FeatureCache
from service.lab.data.photographs import TEST, TRAIN, VALIDATION, Photograph, Photographs
from service.lab.models.opening import open_source
from service.lab.models.publishing import Description, prepared
from service.lab.training.fine_tuning import EPOCHS, Tuner, last_stages
from service.lab.training.fitting import Fitted, Trainer
from service.lab.training.head_spec import HeadSpec
from service.lab.training.recording import Scored, Studied, record
from service.lab.training.scoring import SHIFTS, answers
from service.serving.engines import Network
from service.serving.host import available_cores
from service.store.card import PREPROCESSING, Card, Decode, Input, Resize, Training
from service.store.layout import MODEL, Store
from service.store.publish import publish_version

USUAL = Input(
    height=224, width=224, decode="exact", resize="bilinear", preprocessing=PREPROCESSING["caffe"]
)


@dataclass(frozen=True)
class TrainOptions:
    """The options of the command line; None means not given."""

    heads: tuple[HeadSpec, ...]
    weights: str = "imagenet"
    seeds: int = 3
    size: int | None = None
    decode: Decode | None = None
    resize: Resize | None = None
    sizes: tuple[int, ...] = ()
    fine_tune: int = 0
    cache_gb: float = 20
    use_cache: bool = True


def train(store: Store, folder: Path, wishes: TrainOptions) -> list[Card]:
    """Trains and publishes each head. Raises CommandError, and then publishes none."""
    check_train(store, folder, wishes.heads, wishes.weights, is_tuned=wishes.fine_tune > 0)
    data = photographs.read_photographs(folder)
    for note in data.notes:
        say(note)
    spec = _input(store, wishes)
    source = sources.source(wishes.weights, store, spec, data.splits[TRAIN])
    spec = spec.model_copy(update={"preprocessing": source.known.preprocessing})
    for head in wishes.heads:
        _check_window(head, source.known.feature_shape)
    if wishes.fine_tune:
        last_stages(source.cut.backbone, wishes.fine_tune)
    decoded = Decoded(spec, available_cores())
    with _cache(store, wishes, source.known, spec) as cache:
        started = time.monotonic()
        data = _extract(cache, source, decoded, data)
        features_seconds = time.monotonic() - started
        studied = _fit(cache, data, wishes)
    tuned = _tune(source, decoded, data, studied, wishes.fine_tune)
    scored = _score(source.network, decoded, data, studied)
    if tuned:
        scored += _score(lambda pixels: pixels, decoded, data, tuned)
    studied += tuned
    data = data.without(decoded.broken)
    for one, reason in decoded.broken.items():
        say(f"Not used: {one.path}: {reason}")
    trainings = [
        record(data, source.name, features_seconds, *both) for both in zip(studied, scored, strict=True)
    ]
    fitted = [one.fitted for one in studied]
    return _publish(store, source, spec, data.labels, list(zip(fitted, trainings, strict=True)))


def _input(store: Store, wishes: TrainOptions) -> Input:
    """The input from the options; missing ones come from the head that gives the backbone, or USUAL."""
    usual = USUAL
    if wishes.weights in store.heads():
        usual = store.card(wishes.weights, store.versions(wishes.weights)[0]).input
    said = {
        "height": wishes.size,
        "width": wishes.size,
        "decode": wishes.decode,
        "resize": wishes.resize,
    }
    return usual.model_copy(update={name: value for name, value in said.items() if value is not None})


def _check_window(spec: HeadSpec, shape: tuple[int, int, int]) -> None:
    spec.pooled(keras.Input(shape))
    seen, there = spec.seen(shape[0]), shape[0] * shape[1]
    if seen < there:
        say(f"Head {spec.name} sees {seen} of the {there} positions of the map.")


@contextlib.contextmanager
def _cache(
    store: Store, wishes: TrainOptions, known: sources.Known, spec: Input
) -> Iterator[FeatureCache]:
    """The feature cache, in a temporary folder if features are not to be kept."""
    key = hashlib.sha256(f"{known.digest} {spec.model_dump_json()}".encode()).hexdigest()
    with contextlib.ExitStack() as stack:
        root = store.cache / "features"
        if not wishes.use_cache:
            store.cache.mkdir(parents=True, exist_ok=True)
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=store.cache)))
        yield FeatureCache(root, key, known.feature_shape, int(wishes.cache_gb * 1e9))


def _extract(
    cache: FeatureCache, source: sources.BackboneSource, decoded: Decoded, data: Photographs
) -> Photographs:
    """Caches the features of training and validation. Returns the data without broken files."""
    wanted = [*data.splits[TRAIN], *data.splits[VALIDATION]]
    if todo := cache.missing(wanted):
        cache.make_room(wanted)
        steps = cache.extract(source.network, decoded, todo)
        finish(steps, -(-len(todo) // BATCH), f"Extracting features of {len(todo)} pictures")
    return data.without(decoded.broken)


def _fit(cache: FeatureCache, data: Photographs, wishes: TrainOptions) -> list[Studied]:
    """Trains every head from every seed, and with fewer pictures if the options ask for it."""
    seeds = range(wishes.seeds)
    trainer = Trainer(cache, data.splits[TRAIN], data.splits[VALIDATION], len(data.labels), seeds)

    def steps() -> Generator[None, None, list[Studied]]:
        studied = []
        for spec in wishes.heads:
            fitted = yield from trainer.fit(spec)
            fewer = {}
            for size in wishes.sizes:
                part = replace(trainer, train=_fewer(data.splits[TRAIN], size))
                fewer[size] = yield from part.refit(spec, fitted.best)
            studied.append(Studied(fitted, fewer))
        return studied

    per_head = trainer.trainings() + len(wishes.sizes) * len(seeds)
    return finish(steps(), per_head * len(wishes.heads), f"Training {len(wishes.heads)} heads")


def _fewer(ones: Sequence[Photograph], per_class: int) -> list[Photograph]:
    """The first `per_class` pictures of each class; smaller subsets are part of larger ones."""
    counts: Counter[int] = Counter()
    chosen = []
    for one in ones:
        counts[one.label] += 1
        if counts[one.label] <= per_class:
            chosen.append(one)
    return chosen


def _tune(
    source: sources.BackboneSource,
    decoded: Decoded,
    data: Photographs,
    studied: Sequence[Studied],
    stages: int,
) -> list[Studied]:
    """Fine-tunes each head with the last `stages` of the backbone; none if `stages` is 0."""
    if not stages:
        return []
    tuner = Tuner(source.cut.backbone, decoded, data.splits[TRAIN], data.splits[VALIDATION], stages)

    def steps() -> Generator[None, None, list[Studied]]:
        tuned = []
        for one in studied:
            tuned.append(Studied((yield from tuner.tune(one.fitted)), {}))
        return tuned

    epochs = EPOCHS * sum(len(one.fitted.fits) for one in studied)
    return finish(steps(), epochs, f"Fine-tuning {len(studied)} heads, epochs")


def _score(
    network: Network, decoded: Decoded, data: Photographs, studied: Sequence[Studied]
) -> list[Scored]:
    """Scores on the test split, for the only time; `network` makes the models' inputs from pixels."""
    test = data.splits[TEST]
    models = [[fit.model for fit in one.fits()] for one in studied]
    best = [one.fitted.best.model for one in studied]

    def steps() -> Generator[None, None, list[Scored]]:
        plain = yield from answers(network, decoded, test, list(chain(*models)))
        moved = []
        for shift in SHIFTS:
            moved.append((yield from answers(network, decoded, test, best, shift)))
        rows = iter(plain.probabilities)
        return [
            Scored(
                truth=plain.truth,
                by_fit=[next(rows) for _ in mine],
                shifted={shift: one.probabilities[at] for shift, one in zip(SHIFTS, moved, strict=True)},
            )
            for at, mine in enumerate(models)
        ]

    batches = -(-len(test) // BATCH)
    return finish(steps(), (1 + len(SHIFTS)) * batches, f"Scoring {len(test)} test pictures")


def _publish(
    store: Store,
    source: sources.BackboneSource,
    spec: Input,
    labels: tuple[str, ...],
    heads: Sequence[tuple[Fitted, Training]],
) -> list[Card]:
    """Prepares all heads before it publishes the first."""
    with contextlib.ExitStack() as stack:
        ready = []
        for fitted, training in heads:
            say(f"Publishing {fitted.spec.name} ...")
            description = Description(
                head=fitted.spec.name,
                labels=labels,
                size=(spec.height, spec.width),
                origin="trained",
                decode=spec.decode,
                resize=spec.resize,
                # A tuned model has the preprocessing inside.
                preprocessing=None if fitted.tuned_stages else spec.preprocessing,
                training=training,
            )
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / MODEL
                _whole(source, fitted).save(file)
                ready.append(stack.enter_context(prepared(store, open_source(file), description)))
        return [publish_version(store, folder, card) for folder, card in ready]


def _whole(source: sources.BackboneSource, fitted: Fitted) -> keras.Model:
    """The model pictures -> probabilities; a head that takes features gets the backbone in front."""
    head = fitted.best.model
    if fitted.tuned_stages:
        return head
    bare = source.cut.bare
    return keras.Model(bare.inputs[0], head(bare.outputs[0]))
