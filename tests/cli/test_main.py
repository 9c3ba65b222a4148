"""What the command line says of what went wrong, and of where it serves."""

import errno
from collections.abc import Callable

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from service.cli import main
from service.cli.main import sentence
from service.cli.serve import url_of
from service.errors import CommandError, reason_of


def refused(value: object, model: type[BaseModel]) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return caught.value


class Whole(BaseModel):
    """Wrong as a whole, not in one field."""

    @model_validator(mode="after")
    def refuse(self) -> "Whole":
        raise ValueError("they contradict each other")


class Nested(BaseModel):
    ports: dict[str, int]


@pytest.mark.parametrize(
    ("exc", "told"),
    [
        (CommandError("It cannot be."), "It cannot be."),
        (OSError("the disk is on fire"), "The system: the disk is on fire."),
        (OSError(), "The system: OSError."),
        (TimeoutError(), "The system: TimeoutError."),
        (OSError(errno.EIO, "Input/output error"), "The system: Input/output error."),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.txt"), "a.txt: No such file."),
        (OSError(errno.EXDEV, "Another disk", "a", None, "b"), "a -> b: Another disk."),
        (ModuleNotFoundError(name="keras"), "This command needs keras, which is not installed here."),
        (refused({}, Whole), "The settings: Value error, they contradict each other."),
    ],
)
def test_what_failed_is_one_sentence(exc, told):
    assert sentence(exc) == told


def test_a_wrong_setting_is_named_to_its_last_part():
    assert sentence(refused({"ports": {"a": "x"}}, Nested)).startswith(
        "setting ports.a: Input should be"
    )


@pytest.mark.parametrize(
    "make", [OSError, PermissionError, lambda: OSError("lost"), lambda: OSError(5, "")]
)
def test_a_reason_is_never_empty(make: Callable[[], OSError]):
    assert reason_of(make())
    assert "None" not in reason_of(make())


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:80"),
    ],
)
def test_a_url_has_its_host_as_urls_have_it(host, told):
    assert url_of(host, 80) == told


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["serve", "--port", "none"], {}, "port"),
        (["serve", "--max-batch-size", "0"], {}, "max_batch_size"),
        (["serve"], {"RESNET_HEADS_ENGINE": "jax"}, "engine"),
        (["serve", "--colour", "red"], {}, "--colour"),
        (["compile", "nope"], {}, "nope"),
        (["compile", "gap", "--version", "0"], {}, "--version"),
        (["import", "x.keras"], {}, "--head"),
        (["predict", "a.png", "--url", ""], {}, "'' is not a URL"),
        (["benchmark", "--heads", ""], {}, "heads"),
        (["serve", "--default-head", ""], {}, "default_head"),
        (["init"], {"RESNET_HEADS_STORE_DIR": ""}, "store_dir"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_2(run_here, arguments, environment, told):
    done = run_here(*arguments, **environment)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, None])
def test_an_error_that_came_of_an_interrupt_is_one(monkeypatch, interrupt):
    def fails(_):
        try:
            raise (interrupt or ValueError)
        finally:
            raise AttributeError("half made")

    monkeypatch.setitem(main.COMMANDS, "study", fails)
    with pytest.raises(SystemExit if interrupt else AttributeError) as ended:
        main.main(["study"])
    assert not interrupt or ended.value.code == 130
