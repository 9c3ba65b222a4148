import os

import numpy as np
import pytest
from PIL import Image

from service.errors import CommandError
from service.lab.data.features import Decoded, FeatureCache
from service.lab.data.photographs import Photograph
from service.serving.pixels import decode
from service.store.card import Input
from service.store.layout import sha256_of

SPEC = Input(height=8, width=8, decode="exact", resize="bilinear", preprocessing="none")
SHAPE = (2, 2, 3)
BYTES = 2 * 12


class Corners:
    """A network: the means of the four quarters. Its answer is lost with the next call."""

    def __init__(self):
        self.seen = 0
        self._answer = np.empty(0, np.float32)

    def __call__(self, batch):
        self.seen += len(batch)
        self._answer[:] = np.nan
        self._answer = quarters(batch)
        return self._answer


def quarters(batch):
    return batch.reshape(-1, 2, 4, 2, 4, 3).mean(axis=(2, 4)).astype(np.float32)


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for number in range(19):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
        made.append(Photograph(path, sha256_of(path), number % 2))
    return made


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "features", "k" * 64, SHAPE, 10**6)


def extract(cache, photographs, network=None, decoded=None):
    decoded = decoded or Decoded(SPEC, 2)
    for _ in cache.extract(network or Corners(), decoded, photographs):
        pass
    return decoded


def expected(photographs):
    pixels = np.stack([decode.decode(one.path.read_bytes(), SPEC, 10**6) for one in photographs])
    return quarters(pixels)


def test_features_are_read_as_they_were_computed_but_for_float16(cache, photographs):
    extract(cache, photographs)
    np.testing.assert_allclose(cache.read(photographs), expected(photographs), rtol=2**-10)
    np.testing.assert_array_equal(cache.read(photographs[3:5]), cache.read(photographs)[3:5])


def test_what_is_on_disk_is_not_computed_again(cache, photographs):
    extract(cache, photographs[:5])
    assert cache.missing(photographs) == photographs[5:]
    again = FeatureCache(cache.root, cache.key, SHAPE, 10**6)
    assert again.missing(photographs[:5]) == []


def test_another_backbone_or_input_has_features_of_its_own(cache, photographs):
    extract(cache, photographs)
    other = FeatureCache(cache.root, "0" * 64, SHAPE, 10**6)
    assert other.missing(photographs) == photographs


def test_a_run_that_stops_keeps_whole_batches_and_no_half_file(cache, photographs):
    steps = cache.extract(Corners(), Decoded(SPEC, 2), photographs)
    next(steps)
    steps.close()
    assert len(cache.missing(photographs)) == 19 - 8
    assert {path.suffix for path in cache.root.rglob("*") if path.is_file()} == {".f16"}


def test_broken_files_are_listed_with_their_reason_and_left_out(cache, photographs):
    photographs[2].path.write_bytes(b"no picture")
    photographs[9].path.write_bytes(photographs[9].path.read_bytes()[:60])
    photographs[11].path.unlink()
    network = Corners()
    decoded = extract(cache, photographs, network)
    assert {
        one: decoded.broken[one] for one in sorted(decoded.broken, key=lambda one: str(one.path))
    } == {
        photographs[11]: "No such file or directory",
        photographs[2]: "not a JPEG, PNG, WebP, GIF, BMP or TIFF image.",
        photographs[9]: "the image is broken or truncated.",
    }
    assert network.seen == 16
    assert set(cache.missing(photographs)) == set(decoded.broken)


def test_a_folder_of_broken_files_alone_ends(cache, photographs):
    for one in photographs:
        one.path.write_bytes(b"no picture")
    assert len(extract(cache, photographs).broken) == 19


def test_values_beyond_float16_are_kept_at_its_end(cache, photographs):
    class Loud(Corners):
        def __call__(self, batch):
            return np.full((len(batch), *SHAPE), 1e6, np.float32)

    extract(cache, photographs[:1], Loud())
    assert np.isfinite(cache.read(photographs[:1])).all()


def test_room_is_made_by_what_was_used_longest_ago(tmp_path, photographs):
    cache = FeatureCache(tmp_path / "features", "k" * 64, SHAPE, 12 * BYTES)
    extract(cache, photographs[:10])
    ages = {one.sha256: 1000 + number for number, one in enumerate(photographs[:10])}
    for file in cache.root.rglob("*.f16"):
        os.utime(file, (ages[file.stem], ages[file.stem]))
    wanted = [photographs[0], *photographs[10:16]]
    cache.make_room(wanted)
    assert cache.missing(photographs[:10]) == photographs[1:5]


def test_what_can_never_fit_is_refused(tmp_path, photographs):
    cache = FeatureCache(tmp_path / "features", "k" * 64, SHAPE, 12 * BYTES)
    with pytest.raises(CommandError, match=r"--cache-gb allows 0\.0"):
        cache.make_room(photographs)
