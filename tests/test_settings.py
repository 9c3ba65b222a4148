from pathlib import Path

import pytest
from pydantic import ValidationError

from service.arguments import ENVIRONMENT_ONLY, parser
from service.cli import COMMANDS
from service.settings import Settings

README = (Path(__file__).parents[1] / "README.md").read_text().split("## Settings")[1].split("## ")[0]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_readme_with_its_default(name):
    row = next((line for line in README.splitlines() if line.startswith(f"| `{name}` |")), None)
    assert row, f"{name} is not in the README"
    default = Settings.model_fields[name].default
    told = row.split("|")[2].strip().strip("`")
    assert told == (",".join(default) if isinstance(default, tuple) else str(default)).replace(
        "None", ""
    )


def test_the_readme_names_no_setting_that_is_gone():
    named = {line.split("`")[1] for line in README.splitlines() if line.startswith("| `")}
    assert {name for name in named if name.isidentifier()} <= set(Settings.model_fields)


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - ENVIRONMENT_ONLY))
def test_every_setting_but_secrets_is_a_flag_of_serve(name):
    arguments = parser(COMMANDS).parse_args(["serve", f"--{name.replace('_', '-')}", "1"])
    assert getattr(arguments, name) == "1"


def test_lists_are_comma_separated(monkeypatch):
    monkeypatch.setenv("RESNET_HEADS_API_KEYS", " a,b , ,c")
    assert Settings().api_keys == ("a", "b", "c")


def test_defaults_are_safe():
    assert Settings().host == "127.0.0.1"


@pytest.mark.parametrize(
    "name", ["default_head", "host", "store_dir", "cache_dir", "api_keys_file", "admin_key_file"]
)
def test_an_empty_text_is_refused_where_it_would_mean_another_thing(name, monkeypatch):
    """An empty path is the folder one is in, and an empty host may be every address."""
    monkeypatch.setenv(f"RESNET_HEADS_{name.upper()}", "")
    with pytest.raises(ValidationError, match="it is empty"):
        Settings()


@pytest.mark.parametrize(
    "wrong", [{"port": -1}, {"engine": "jax"}, {"max_batch_size": 0}, {"unknown": 1}]
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        Settings(**wrong)
