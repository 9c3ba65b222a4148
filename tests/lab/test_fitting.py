import numpy as np
import pytest

from service.lab.data.features import FeatureCache
from service.lab.data.photographs import Photograph
from service.lab.training.fitting import GRID, MAX_EPOCHS, PATIENCE, Trainer
from service.lab.training.head_spec import parse_head
from service.lab.training.pooled import PooledFeatures

SHAPE = (7, 7, 6)
CLASSES = 3
SETTING = ((1e-2, 1e-2),)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return FeatureCache(tmp_path_factory.mktemp("features"), "k", SHAPE, 10**9)


@pytest.fixture(scope="module")
def photographs(cache):
    """90 maps whose channels tell the class, and whose first row tells it better."""
    rng = np.random.default_rng(0)
    made, given = [], []
    for number in range(90):
        label = number % CLASSES
        one = Photograph(cache.root / str(number), f"{number:064x}", label)
        features = rng.gamma(1.0, 1.0, SHAPE)
        features[:, :, label] += 0.3
        features[0, :, label + 3] += 1.0
        made.append(one)
        given.append(features)

    class Decoded:
        """Photographs whose pixels are the features."""

        def batches(self, photographs):
            yield photographs, np.stack(given)

    for _ in cache.extract(lambda pixels: pixels, Decoded(), made):
        pass
    return made


def finished(steps):
    """What a generator returns, and how often it yielded."""
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, count
        count += 1


def trainer(cache, photographs, seeds=(0,), grid=SETTING):
    return Trainer(cache, photographs[:60], photographs[60:], CLASSES, seeds, grid)


def probabilities(fit, cache, photographs):
    return fit.model(cache.read(photographs)).numpy()


@pytest.mark.parametrize(("word", "same"), [("gap", "average:7"), ("flatten", "average:1")])
def test_both_ends_of_the_road_are_gap_and_flatten(cache, photographs, word, same):
    fits = [finished(trainer(cache, photographs).fit(parse_head(text)))[0].best for text in (word, same)]
    one, other = (probabilities(fit, cache, photographs) for fit in fits)
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert fits[0].validation_loss == pytest.approx(fits[1].validation_loss, rel=1e-3)


def test_the_setting_with_the_least_validation_loss_is_chosen_with_the_first_seed(cache, photographs):
    grid = ((1e-6, 1e-2), (1e-2, 1e-2))
    fitted, yielded = finished(trainer(cache, photographs, (3, 4, 5), grid).fit(parse_head("gap")))
    assert {(fit.learning_rate, fit.weight_decay) for fit in fitted.fits} == {(1e-2, 1e-2)}
    assert [fit.seed for fit in fitted.fits] == [3, 4, 5]
    assert yielded == trainer(cache, photographs, (3, 4, 5), grid).trainings() == 4
    assert fitted.best.validation_loss == min(fit.validation_loss for fit in fitted.fits)


def test_the_validation_loss_is_that_of_the_weights_that_are_kept(cache, photographs):
    """The published head's own cross-entropy on the validation split, in numpy."""
    best = finished(trainer(cache, photographs).fit(parse_head("flatten")))[0].best
    held = photographs[60:]
    truth = np.array([one.label for one in held])
    told = probabilities(best, cache, held)[np.arange(30), truth]
    assert -np.log(told).mean() == pytest.approx(best.validation_loss, rel=1e-3)
    assert best.validation_loss == min(epoch.validation_loss for epoch in best.curve)


def test_equal_seeds_give_equal_heads_and_other_seeds_others(cache, photographs):
    def weights(seed):
        fitted, _ = finished(trainer(cache, photographs, (seed,)).fit(parse_head("gap")))
        return fitted.best.model.get_weights()[0]

    np.testing.assert_allclose(weights(1), weights(1), atol=1e-6)
    assert not np.allclose(weights(1), weights(2), atol=1e-3)


def test_a_head_with_hidden_layers_and_dropout_is_trained_and_has_them(cache, photographs):
    spec = parse_head("gap,hidden=16,8,dropout=0.2")
    best = finished(trainer(cache, photographs).fit(spec))[0].best
    assert [weights.shape for weights in best.model.get_weights()[::2]] == [(6, 16), (16, 8), (8, 3)]
    told = probabilities(best, cache, photographs[60:])
    assert (told.argmax(axis=1) == [one.label for one in photographs[60:]]).mean() > 0.6


def test_values_are_standardised_over_the_training_split(cache, photographs):
    pooled = PooledFeatures(cache, parse_head("gap"), photographs)
    values = cache.read(photographs).mean(axis=(1, 2))
    moments = pooled.moments()
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-4)
    spread = values.std(axis=0)
    np.testing.assert_allclose(moments.scale, 1 / (spread + spread.mean()), rtol=1e-3)


def test_what_does_not_fit_into_memory_is_read_again_and_is_the_same(cache, photographs):
    kept = PooledFeatures(cache, parse_head("average:2"), photographs)
    streamed = PooledFeatures(cache, parse_head("average:2"), photographs, max_bytes=0)
    rows = np.array([3, 80, 1])
    np.testing.assert_allclose(kept[rows], streamed[rows], rtol=1e-6)
    np.testing.assert_allclose(kept.moments().scale, streamed.moments().scale, rtol=1e-6)


def test_batches_have_every_picture_once_in_the_order_that_is_asked_for(cache, photographs):
    pooled = PooledFeatures(cache, parse_head("gap"), photographs)
    order = np.random.default_rng(0).permutation(90)
    values, labels = (np.concatenate(parts) for parts in zip(*pooled.batches(order), strict=True))
    np.testing.assert_allclose(values, cache.read(photographs).mean(axis=(1, 2))[order], rtol=1e-5)
    np.testing.assert_array_equal(labels, order % CLASSES)


def test_training_ends_some_epochs_after_its_best(cache, photographs):
    fast = trainer(cache, photographs, grid=((0.1, 1e-2),))
    curve = finished(fast.fit(parse_head("flatten")))[0].best.curve
    best = min(range(len(curve)), key=lambda epoch: curve[epoch].validation_loss)
    assert len(curve) == min(best + 1 + PATIENCE, MAX_EPOCHS)
    assert curve[0].train_loss > curve[-1].train_loss


def test_the_grid_has_all_combinations():
    assert len(set(GRID)) == 6
