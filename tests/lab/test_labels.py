"""Label files as people have them, in `tests/cases/labels`, and their kin: read right, or refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import CommandError
from service.lab.labels import MAX_LABEL_BYTES, MAX_LABEL_CHARACTERS, Labels, read_labels

CASES = Path(__file__).parents[1] / "cases" / "labels"
FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
TAKEN_OFF = "took the numbers 0 to 4 off the lines of the labels"


@pytest.fixture
def read(tmp_path):
    """Reads a text, or bytes, as a file of labels."""

    def read(content: str | bytes) -> Labels:
        path = tmp_path / "labels.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_labels(path)

    return read


@pytest.fixture
def refusal(read):
    """The one sentence with which a text, or bytes, is refused."""

    def refusal(content: str | bytes) -> str:
        with pytest.raises(CommandError) as refused:
            read(content)
        sentence = str(refused.value)
        assert len(sentence) <= 300
        assert len(sentence.splitlines()) == 1
        assert sentence.startswith("labels.txt ")
        assert sentence.endswith(".")
        return sentence

    return refusal


READ = {
    "good.txt": Labels(FLOWERS),
    "good-bom-crlf.txt": Labels(FLOWERS),
    "class_indices.json": Labels(FLOWERS),
    "class_indices-shuffled.json": Labels(FLOWERS),
    "class_indices-three.json": Labels(FLOWERS[:3]),
    "index_to_label.json": Labels(FLOWERS),
    "list.json": Labels(FLOWERS),
    "list-three.json": Labels(FLOWERS[:3]),
    "numbered.txt": Labels(FLOWERS, (TAKEN_OFF,)),
}
REFUSED = {
    "commas.txt": "one label a line",
    "printed-list.txt": "one label a line",
    "duplicates.txt": "the label 'daisy' twice, at line 1 and line 2",
}


@pytest.mark.parametrize("name", READ)
def test_a_file_as_people_have_it_is_read(name):
    assert read_labels(CASES / name) == READ[name]


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_as_people_have_it_is_refused(name):
    with pytest.raises(CommandError, match=REFUSED[name]):
        read_labels(CASES / name)


def test_every_case_has_its_expectation():
    assert {path.name for path in CASES.iterdir()} == {*READ, *REFUSED}


# numbers


@pytest.mark.parametrize(
    "line", ["{} {}", "{}: {}", "{}:{}", "{},{}", "{}, {}", "{}\t{}", "{};{}", "{}. {}", "{}) {}"]
)
@pytest.mark.parametrize("digits", ["{}", "{:03}"])
def test_numbers_in_order_before_the_labels_come_off(read, line, digits):
    lines = [line.format(digits.format(number), label) for number, label in enumerate(FLOWERS)]
    assert read("\r\n".join(lines)) == Labels(FLOWERS, (TAKEN_OFF,))


@pytest.mark.parametrize("line", ["{1},{0}", "{1}\t{0}", "{1}: {0}", "{1};{0}"])
def test_so_do_numbers_in_order_after_them(read, line):
    lines = [line.format(number, label) for number, label in enumerate(FLOWERS)]
    assert read("\n".join(lines)) == Labels(FLOWERS, (TAKEN_OFF,))


def test_what_follows_teachable_machines_number_may_begin_with_a_number(read):
    assert read("0 Class 1\n1 Class 2\n").names == ("Class 1", "Class 2")
    assert read("0 0\n1 1\n2 2\n").names == ("0", "1", "2")


@pytest.mark.parametrize(
    "labels",
    [
        ("0", "1", "2"),
        ("1 star", "2 stars", "3 stars"),
        ("0 daisy", "1 roses", "tulips"),
        ("0:30", "1:00"),
        ("0,5 l", "1,0 l"),
        ("0.5 mm", "1.5 mm"),
        ("room 0", "room 1"),
        ("tench, Tinca tinca", "goldfish, Carassius auratus"),
        ("(", ")", "+"),
        ("0_cat", "1_dog"),
    ],
    ids=" ".join,
)
def test_numbers_and_signs_that_belong_to_the_labels_stay(read, labels):
    assert read("\n".join(labels)) == Labels(labels)


@pytest.mark.parametrize("text", ["1 daisy\n0 roses", "daisy,1\nroses,0", "0 a\n2 b\n1 c"])
def test_numbers_out_of_order_are_refused(refusal, text):
    assert "not in order" in refusal(text)


def test_numbers_without_which_two_labels_are_equal_are_refused(refusal):
    told = refusal("0 stars\n1 star\n2 stars\n")
    assert "the label 'stars' twice, at line 1 and line 3" in told
    assert "JSON list" in told


def test_a_json_list_keeps_numbers(read):
    assert read('["0 stars", "1 star", "2 stars"]') == Labels(("0 stars", "1 star", "2 stars"))


@pytest.mark.parametrize("heading", ["index,label", "names:", "label"])
def test_a_table_with_a_heading_is_refused(refusal, heading):
    """It has as many lines as a model with a class more has classes."""
    assert "heading" in refusal(f"{heading}\n0,daisy\n1,roses\n")
    assert "heading" in refusal(f"{heading}\ndaisy,0\nroses,1\n")


# JSON


@pytest.mark.parametrize(
    "found",
    [
        {label: number for number, label in reversed(list(enumerate(FLOWERS)))},
        {str(number): label for number, label in reversed(list(enumerate(FLOWERS)))},
        list(FLOWERS),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("before", ["", "\ufeff", "\n \n"])
def test_json_is_read_however_it_is_written(read, found, indent, before):
    assert read(before + json.dumps(found, indent=indent)).names == FLOWERS


def test_more_than_ten_numbers_are_in_the_order_of_numbers(read):
    labels = tuple(f"class {number}" for number in range(12))
    assert read(json.dumps({str(number): label for number, label in enumerate(labels)})).names == labels


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 0, "b": 2}', "from 0 to 1, each once; 1 is missing"),
        ('{"a": 1, "b": 2}', "0 is missing"),
        ('{"a": 0, "b": 0}', "1 is missing"),
        ('{"a": 0, "b": -1}', "1 is missing"),
        ('{"0": "a", "2": "b"}', "1 is missing"),
        ('{"0": "a", "00": "b"}', "1 is missing"),
        ('{"a": 0, "a": 1}', "the label 'a' twice, at number 0 and number 1"),
        ('{"0": "a", "1": "a"}', "the label 'a' twice, at number 0 and number 1"),
        ('["a", "b", "a"]', "the label 'a' twice, at item 1 and item 3"),
        ('["a", " a"]', "the label 'a' twice"),
        ('["e\u0301", "\u00e9"]', "twice, at item 1 and item 2"),
        ('{"a": NaN, "b": 0}', "neither a JSON list"),
        ('{"a": 0.0, "b": 1}', "neither a JSON list"),
        ('{"a": true, "b": 0}', "neither a JSON list"),
        ('{"a": "0", "b": "1"}', "neither a JSON list"),
        ('{"a": null, "b": 0}', "neither a JSON list"),
        ('{"labels": ["a", "b"]}', "neither a JSON list"),
        ('{"0": {"a": 0}, "1": "b"}', "neither a JSON list"),
        ('{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}', "neither a JSON list"),
        ('[["a", "b"], ["c"]]', "neither a JSON list"),
        ("[0, 1]", "neither a JSON list"),
        ('"a"', "neither a JSON list"),
        ('["a", ""]', "no label at item 2"),
        ('["a", "\\ud800"]', "U+D800 at item 2"),
        ('["a", "b\\u0007"]', "U+0007 at item 2"),
        ("{}", "holds 0 labels"),
        ("[]", "holds 0 labels"),
        ('["a"]', "holds 1 labels"),
        ('{"a": 0, "b": 1', "one label a line"),
        ('{"a": 0}\n{"b": 1}', "one label a line"),
        ("{'a': 0, 'b': 1}", "one label a line"),
        ('"a"\n"b"', "one label a line"),
        ('"a",\n"b"', "one label a line"),
        ("[" * 100_000, "one label a line"),
        ('{"a": ' + "1" * 5000 + "}", "one label a line"),
    ],
    ids=lambda value: value[:40],
)
def test_other_json_is_refused(refusal, text, told):
    assert told in refusal(text)


# what is no list of labels


@pytest.mark.parametrize(
    "text",
    [
        "('daisy', 'roses')",
        "['daisy' 'roses'\n 'tulips']",
        "array(['daisy',\n 'roses'])",
        "dict_keys(['daisy', 'roses'])",
        "'daisy'\n'roses'",
        "'daisy',\n'roses',",
        "daisy,\nroses,\ntulips",
        "LABELS = [\n  'daisy',\n  'roses',\n]",
        "item {\n  id: 1\n  name: 'daisy'\n}",
    ],
)
def test_what_a_program_printed_or_holds_is_never_taken_as_lines(refusal, text):
    assert "one label a line" in refusal(text)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("daisy\nroses".encode("utf-16"), "UTF-16; save it as UTF-8"),
        ("daisy\nroses".encode("utf-16-le"), "save it as UTF-8"),
        ("käse\nwurst".encode("latin-1"), "save it as UTF-8"),
        (b"", "holds 0 labels"),
        (b"\xef\xbb\xbf", "holds 0 labels"),
        (b"daisy\n\n\n", "holds 1 labels"),
        (b"daisy\nro\x07ses\n", "U+0007 at line 2"),
        (b"daisy\troses\ntulips\n", "U+0009 at line 1"),
        ("daisy\nro\u2028ses".encode(), "U+2028 at line 2"),
        ("daisy\n\ufeffroses".encode(), "U+FEFF at line 2"),
        (b"daisy\n\nroses\n daisy \n", "the label 'daisy' twice, at line 1 and line 4"),
        (b"daisy\n" + (MAX_LABEL_CHARACTERS + 1) * b"x", "201 characters at line 2"),
        (MAX_LABEL_BYTES * b" " + b"x", f"larger than {MAX_LABEL_BYTES} bytes"),
        (b"a" + 1_000_000 * b" " + b"b\nc", "1000002 characters at line 1"),
    ],
    ids=lambda value: str(value[:40]),
)
def test_other_text_is_refused(refusal, content, told):
    assert told in refusal(content)


def test_a_label_may_be_long_and_in_any_script(read):
    labels = ("x" * MAX_LABEL_CHARACTERS, "Gänseblümchen", "蒲公英", "👩\u200d🌾")
    assert read("\n".join(labels)).names == labels


def test_a_pipe_is_read_as_a_shell_gives_it():
    code = "from pathlib import Path; from service.lab.labels import *; "
    code += "print(read_labels(Path('/dev/stdin')).names)"
    done = subprocess.run(
        [sys.executable, "-c", code], input="a\nb\n", capture_output=True, text=True, check=True
    )
    assert done.stdout == "('a', 'b')\n"
