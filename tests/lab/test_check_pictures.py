"""Which photographs a check takes, and in which order. No TensorFlow."""

import io
import itertools
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.errors import CommandError
from service.lab.checking.pictures import MOST, choose

LABELS = ("apple", "banana", "cherry")


def picture(number: int, orientation: int = 1, kind: str = "JPEG") -> bytes:
    """A file whose content no other number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    block, file = Image.Exif(), io.BytesIO()
    block[0x0112] = orientation
    Image.fromarray(pixels).save(file, kind, exif=block)
    return file.getvalue()


def fill(folder: Path, counts: dict[str, int], first: int = 0, **wishes) -> Path:
    numbers = itertools.count(first)
    for label, count in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            number = next(numbers)
            (folder / label / f"{number}.jpg").write_bytes(picture(number, **wishes))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return fill(tmp_path / "photos", {"apple": 9, "banana": 5, "cherry": 2})


def names(pictures) -> list[str]:
    return [one.path.name for one in (*pictures.upright, *pictures.turned)]


def test_each_class_comes_in_turn(folder):
    labels = [one.label for one in choose(folder, LABELS).upright]
    assert Counter(labels) == {0: 9, 1: 5, 2: 2}
    assert [set(labels[at : at + 3]) for at in (0, 3)] == [{0, 1, 2}] * 2
    assert [set(labels[at : at + 2]) for at in (6, 8, 10)] == [{0, 1}] * 3


def test_the_order_is_that_of_contents_and_not_of_names(folder, tmp_path):
    renamed = tmp_path / "renamed"
    for label in LABELS:
        (renamed / label / "deeper").mkdir(parents=True)
        for path in (folder / label).iterdir():
            shutil.copy(path, renamed / label / "deeper" / f"{99 - int(path.stem)}.JPG")
    before, after = choose(folder, LABELS), choose(renamed, LABELS)
    assert [one.sha256 for one in before.upright] == [one.sha256 for one in after.upright]
    assert sorted(names(before)) != names(before)


def test_labels_are_those_of_the_model_whatever_the_order_of_folders(folder):
    more = ("zebra", "cherry", "apple", "yak", "banana")
    for one in choose(folder, more).upright:
        assert more[one.label] == one.path.parent.name


def test_a_class_without_a_folder_is_no_mistake_and_one_with_an_unknown_folder_is(folder):
    assert len(choose(folder, (*LABELS, "damson")).upright) == 16
    with pytest.raises(CommandError, match=r"no label 'banana'; the folders in photos"):
        choose(folder, ("apple", "cherry"))


def test_many_unknown_classes_are_one_short_sentence(tmp_path):
    for number in range(30):
        (tmp_path / "photos" / f"{number:02}{'x' * 200}").mkdir(parents=True)
    with pytest.raises(CommandError, match="and 27 more") as refused:
        choose(tmp_path / "photos", LABELS)
    assert len(str(refused.value)) <= 300


def test_an_accent_may_be_written_in_two_ways(tmp_path):
    written = unicodedata.normalize("NFD", "käse")
    fill(tmp_path, {written: 2, "brot": 2})
    pictures = choose(tmp_path, ("brot", unicodedata.normalize("NFC", "käse")))
    assert Counter(one.label for one in pictures.upright) == {0: 2, 1: 2}


def test_equal_files_count_once_and_of_two_classes_not_at_all(folder):
    shutil.copy(folder / "apple/0.jpg", folder / "apple/copy.jpg")
    shutil.copy(folder / "apple/1.jpg", folder / "banana/copy.jpg")
    hashes = [one.sha256 for one in choose(folder, LABELS).upright]
    assert len(hashes) == len(set(hashes)) == 15


def test_what_is_no_picture_is_counted_and_left_out(folder):
    (folder / "apple/notes.txt").write_text("no picture")
    (folder / "apple/empty.jpg").write_bytes(b"")
    (folder / "apple/cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "apple/.hidden.jpg").write_bytes(picture(99))
    (folder / "apple/away.jpg").symlink_to("nowhere")
    pictures = choose(folder, LABELS)
    assert (len(pictures.upright), pictures.unread) == (16, 4)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"apple": 1, "banana": 0}, "holds 1 pictures of 1 classes"),
        ({"apple": 0, "banana": 0}, "holds 0 pictures of 0 classes"),
        ({"apple": 9, "banana": 0}, "holds 9 pictures of 1 classes"),
        ({"apple": 9}, "holds 1 folders of pictures; a class each, two at least"),
        ({}, "There is no folder"),
    ],
)
def test_too_little_to_tell_anything_is_refused(tmp_path, counts, said):
    with pytest.raises(CommandError, match=said):
        choose(fill(tmp_path / "photos", counts), LABELS)


@pytest.mark.parametrize(
    ("splits", "used"),
    [
        (("train", "val", "test"), "test"),
        (("train", "val"), "val"),
        (("train", "validation"), "validation"),
        (("train",), "train"),
    ],
)
def test_of_given_splits_that_is_taken_which_training_saw_least(tmp_path, splits, used):
    for number, split in enumerate(splits):
        fill(tmp_path / split, {"apple": 2, "banana": 2}, first=100 * number)
    pictures = choose(tmp_path, LABELS)
    assert {one.path.relative_to(tmp_path).parts[0] for one in pictures.upright} == {used}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pictures_that_exif_turns_are_kept_apart(folder, kind):
    fill(folder, {"apple": 2, "banana": 2}, first=50, orientation=6, kind=kind)
    pictures = choose(folder, LABELS)
    assert len(pictures.upright) == 16
    assert {one.path.name for one in pictures.turned} == {f"{number}.jpg" for number in range(50, 54)}


@pytest.mark.parametrize(("orientation", "kind"), [(1, "JPEG"), (9, "JPEG"), (6, "TIFF")])
def test_an_orientation_that_changes_nothing_turns_no_picture(folder, orientation, kind):
    fill(folder, {"apple": 2}, first=50, orientation=orientation, kind=kind)
    assert choose(folder, LABELS).turned == ()


def test_of_very_many_files_only_some_are_read(tmp_path):
    fill(tmp_path, {"apple": MOST + 50, "banana": 30})
    pictures = choose(tmp_path, LABELS)
    assert Counter(one.label for one in pictures.upright) == {0: MOST - 30, 1: 30}
    assert choose(tmp_path, LABELS) == pictures
