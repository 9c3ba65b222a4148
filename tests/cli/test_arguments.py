"""The command line takes nothing that is said as not said: a shell's unset variable is an empty text."""

import pytest

from service.cli.arguments import parser
from service.cli.main import COMMANDS


@pytest.mark.parametrize(
    "line",
    [
        ["predict", ""],
        ["predict", "a.png", "--explain", ""],
        ["study", "--html", ""],
        ["import", "", "--head", "gap", "--labels", "labels.txt"],
        ["import", "a.keras", "--head", "gap", "--labels", ""],
        ["train", "", "--head", "gap"],
        ["quantize", "gap", "--images", ""],
        ["compile", "gap", "--version", "0"],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_folder_one_is_in_and_version_0_is_not_the_newest(line, capsys):
    with pytest.raises(SystemExit) as ended:
        parser(COMMANDS).parse_args(line)
    assert ended.value.code == 2
    assert "error: argument" in capsys.readouterr().err
