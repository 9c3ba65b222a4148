from pathlib import Path

import documents
import pytest
import settings_document
from pydantic import ValidationError

from service.cli.arguments import ENVIRONMENT_ONLY, parser
from service.cli.main import COMMANDS
from service.settings import Settings

COMMITTED = Path(__file__).parents[1] / "docs" / "settings.md"
DEFAULTS = {row[0]: row[1] for row in documents.rows("setting") if len(row) == 3}


def test_the_committed_document_is_the_generated_one():
    assert COMMITTED.read_text() == settings_document.render(), "run: make docs"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_default_in_the_document_is_the_one_that_a_server_takes(name, monkeypatch):
    told = DEFAULTS[f"`{name}`"].strip("`")
    default = getattr(Settings(), name)
    if told:
        monkeypatch.setenv(f"RESNET_HEADS_{name.upper()}", told)
    assert getattr(Settings(), name) == default
    assert bool(told) == (default not in (None, "", (), {}))


def test_no_table_names_a_setting_that_is_gone():
    assert {row[0].strip("`") for row in documents.rows("setting")} == set(Settings.model_fields)


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
