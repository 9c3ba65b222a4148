import itertools
import os
import shutil

import pytest

from service.errors import CommandError
from service.lab.data.photographs import SPLITS, read_photographs

LABELS = ("apple", "banana", "cherry")


@pytest.fixture
def folder(tmp_path):
    """Three classes of 20 files each, all different. Nothing is decoded here: text will do."""
    return fill(tmp_path / "photos", 20)


def fill(root, count, tag=""):
    for label in LABELS:
        (root / label).mkdir(parents=True)
        for number in range(count):
            (root / label / f"{number}.jpg").write_text(f"{tag}{label}{number}")
    return root


def contents(data):
    """The text of the files of each split, by class."""
    return {
        split: {
            label: {one.path.read_text() for one in data.splits[split] if one.label == index}
            for index, label in enumerate(data.labels)
        }
        for split in SPLITS
    }


def test_a_plain_folder_is_divided_by_class(folder):
    data = read_photographs(folder)
    assert data.labels == LABELS
    assert {
        split: {label: len(files) for label, files in classes.items()}
        for split, classes in contents(data).items()
    } == {
        "train": dict.fromkeys(LABELS, 14),
        "validation": dict.fromkeys(LABELS, 3),
        "test": dict.fromkeys(LABELS, 3),
    }
    told = [files for classes in contents(data).values() for files in classes.values()]
    assert sum(map(len, told)) == len(set.union(*told)) == 60, "every file once"
    assert data.notes == (
        "9 of the pictures for training are held out for test",
        "9 of the pictures for training are held out for validation",
    )


def test_which_files_go_where_follows_from_their_content_and_the_seed(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for label in LABELS:
        (elsewhere / label).mkdir(parents=True)
        for number, file in enumerate(sorted((folder / label).iterdir(), reverse=True)):
            shutil.copy(file, elsewhere / label / f"renamed-{number}.png")
    assert contents(read_photographs(folder)) == contents(read_photographs(elsewhere))
    assert read_photographs(folder).digest() == read_photographs(elsewhere).digest()
    assert contents(read_photographs(folder, seed=1)) != contents(read_photographs(folder))
    assert read_photographs(folder, seed=1).digest() != read_photographs(folder).digest()


def test_given_splits_are_respected(tmp_path):
    for split in ("train", "val", "test"):
        fill(tmp_path / split, 3, tag=split)
    data = read_photographs(tmp_path)
    for split, tag in zip(SPLITS, ("train", "val", "test"), strict=True):
        assert {text.startswith(tag) for files in contents(data)[split].values() for text in files} == {
            True
        }
    assert data.notes == ()


def test_validation_is_held_out_of_train_where_only_that_is_missing(tmp_path):
    fill(tmp_path / "train", 20, tag="train")
    fill(tmp_path / "test", 2, tag="test")
    data = read_photographs(tmp_path)
    assert [len(data.splits[split]) for split in SPLITS] == [51, 9, 6]


def test_hidden_files_and_folders_are_no_pictures(folder):
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("x")
    (folder / "apple" / ".DS_Store").write_text("x")
    (folder / "readme.txt").write_text("x")
    data = read_photographs(folder)
    assert sum(map(len, data.splits.values())) == 60


def test_pictures_in_folders_below_a_class_are_of_that_class(folder):
    deep = folder / "apple" / "green" / "small"
    deep.mkdir(parents=True)
    (deep / "1.jpg").write_text("deep")
    assert "deep" in set(
        itertools.chain(*(classes["apple"] for classes in contents(read_photographs(folder)).values()))
    )


def test_a_copy_in_the_same_split_is_used_once(folder):
    shutil.copy(folder / "apple" / "1.jpg", folder / "apple" / "copy.jpg")
    data = read_photographs(folder)
    assert sum(map(len, data.splits.values())) == 60
    [note] = [note for note in data.notes if "copies" in note]
    assert "1.jpg" in note
    assert "copy.jpg" in note


def test_a_copy_across_splits_is_used_for_the_test_only(tmp_path):
    fill(tmp_path / "train", 20, tag="train")
    fill(tmp_path / "test", 2, tag="test")
    shutil.copy(tmp_path / "test" / "banana" / "0.jpg", tmp_path / "train" / "banana" / "leak.jpg")
    data = read_photographs(tmp_path)
    assert [split for split in SPLITS if "testbanana0" in contents(data)[split]["banana"]] == ["test"]
    assert any("is used for test; its copies are not" in note for note in data.notes)


def test_a_file_in_two_classes_is_used_for_neither(folder):
    shutil.copy(folder / "apple" / "1.jpg", folder / "banana" / "same.jpg")
    data = read_photographs(folder)
    assert sum(map(len, data.splits.values())) == 59
    assert any("is in apple and banana: not used" in note for note in data.notes)


def no_folder(root):
    return root / "nothing"


def empty(root):
    (root / "empty").mkdir()
    return root / "empty"


def one_class(root):
    (root / "apple").mkdir()
    (root / "apple" / "1.jpg").write_text("1")
    return root


def few(root):
    fill(root, 8)
    for number in range(5):
        (root / "cherry" / f"{number}.jpg").unlink()
    return root


def no_train(root):
    fill(root / "test", 3)
    return root


def a_class_that_is_never_trained(root):
    fill(root / "train", 8, tag="train")
    fill(root / "test", 3, tag="test")
    (root / "test" / "durian").mkdir()
    (root / "test" / "durian" / "1.jpg").write_text("durian")
    return root


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (no_folder, "There is no folder"),
        (empty, "holds 0 folders of pictures"),
        (one_class, "holds 1 folders of pictures"),
        (few, "'cherry' has 3 pictures; 4 are needed"),
        (no_train, "has test, but no train folder"),
        (a_class_that_is_never_trained, "'durian' has 0 pictures; 4 are needed"),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(tmp_path, made, reason):
    with pytest.raises(CommandError, match=reason):
        read_photographs(made(tmp_path))


def test_a_class_whose_files_all_turn_out_broken_is_refused(folder):
    data = read_photographs(folder)
    broken = [one for one in data.splits["validation"] if one.label == 1]
    with pytest.raises(CommandError, match="'banana' has no usable picture for validation"):
        data.without(broken)
    assert len(data.without(broken[1:]).splits["validation"]) == 9 - len(broken[1:])


def test_a_folder_that_is_not_named_in_utf_8_is_refused(folder):
    """Its label could not be written into a card, once everything was trained."""
    (folder / LABELS[0]).rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))
    with pytest.raises(CommandError, match="is not named in UTF-8"):
        read_photographs(folder)
