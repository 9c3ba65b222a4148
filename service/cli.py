"""The command line. Each command calls one function below; what goes wrong is one line and exit 2."""

import argparse
import logging
import math
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import uvicorn
from pydantic import ValidationError

from service.app import create_app, open_bench, open_store
from service.benchmark.children import Children
from service.benchmark.plan import Plan, cards_in
from service.errors import CommandError, ServiceError
from service.progress import say, timed
from service.serving.engines import choose_engine
from service.settings import Settings
from service.store.card import Card, Decode, Preprocessing, Resize

EXAMPLE = Path("examples/red-top-left.jpg")
ENVIRONMENT_ONLY = {"api_keys", "admin_key"}


def main() -> None:
    """Runs the command of sys.argv and exits with its code: 0 done, 2 refused, 130 interrupted."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except ServiceError as exc:
        sys.exit(_refuse(str(exc)))
    except ValidationError as exc:
        first = exc.errors()[0]
        sys.exit(_refuse(f"setting {first['loc'][0]}: {first['msg']}."))
    except OSError as exc:
        sys.exit(_refuse(f"{exc.filename or 'The system'}: {exc.strerror}."))
    except KeyboardInterrupt:
        sys.exit(130)


def _refuse(reason: str) -> int:
    say(f"resnet-heads: {reason}")
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "resnet-heads", description="Serve ResNet50 heads, and fill their store."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    serve = command("serve", _serve, "serve the heads of the store")
    for name, field in Settings.model_fields.items():
        if name not in ENVIRONMENT_ONLY:
            serve.add_argument(_flag(name), metavar="X", help=f"{field.description} [{field.default}]")

    init = command("init", _init, "fill an empty store with a gap and a flatten head")
    init.add_argument(
        "--weights", help="imagenet, demo, or the path of a full keras.applications weights file"
    )
    init.add_argument("--if-empty", action="store_true", help="do nothing where the store has heads")

    importing = command("import", _import, "publish a saved Keras 3 model as a head")
    importing.add_argument("file", type=Path, metavar="FILE.keras")
    importing.add_argument("--head", required=True, help="name of the head")
    importing.add_argument("--labels", required=True, type=Path, help="text file, a label a line")
    importing.add_argument("--size", type=int, help="input side, for a model that takes any")
    importing.add_argument("--preprocessing", choices=get_args(Preprocessing))
    importing.add_argument("--resize", choices=get_args(Resize))
    importing.add_argument("--decode", choices=get_args(Decode), default="exact")

    compiling = command(
        "compile", _compile, "derive the files that an engine opens from a version's model"
    )
    compiling.add_argument("head")
    compiling.add_argument("--version", type=int, help="default: the newest")
    compiling.add_argument("--engine", choices=("openvino", "keras"), default="openvino")

    benchmark = command("benchmark", _benchmark, "measure latency and memory of each head")
    benchmark.add_argument("--heads", type=_names, metavar="A,B", help="default: all in the store")
    benchmark.add_argument("--engines", type=_names, metavar="E,..", help="default: the one that serves")
    benchmark.add_argument("--batch-sizes", type=_names, metavar="N,..", help="default: 1,8")
    benchmark.add_argument("--seconds", metavar="N", help="for the whole run; default: 20")
    benchmark.add_argument("--json", action="store_true", help="print the report, not a table")
    benchmark.add_argument(
        "--if-missing", action="store_true", help="do nothing where this host has a report"
    )
    for added in (init, importing, compiling, benchmark):
        added.add_argument("--store-dir", help="the model store")
    return parser


def _serve(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    listener = socket.create_server((settings.host, settings.port), backlog=2048)
    host, port = listener.getsockname()[:2]
    url = f"http://{host}:{port}{settings.root_path}"
    app = create_app(settings, on_ready=lambda heads: _announce(url, heads, settings))
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again once it has stopped
        signal.signal(number, lambda *_: None)
    uvicorn.Server(
        uvicorn.Config(
            app,
            timeout_keep_alive=settings.keep_alive_s,
            # no request takes longer but a benchmark, which a stop then cuts short
            timeout_graceful_shutdown=math.ceil(settings.body_timeout_s + settings.request_timeout_s),
            access_log=False,
            log_level="warning",
            log_config=None,
        )
    ).run(sockets=[listener])


def _announce(url: str, heads: list[str], settings: Settings) -> None:
    """Where the server is, and one line that works as printed."""
    say(f"Serving {', '.join(heads)} on {url}")
    head = "flatten" if "flatten" in heads else heads[0]
    if settings.api_keys:
        say(f"Try: curl -H 'X-API-Key: ...' '{url}/heads'")
    elif EXAMPLE.exists():
        say(f"Try: curl --data-binary @{EXAMPLE} '{url}/predict?head={head}'")
    else:
        say(f"Try: curl '{url}/heads/{head}'")


def _init(arguments: argparse.Namespace) -> None:
    store = open_store(_settings(arguments))
    if arguments.if_empty and store.heads():
        return
    from service.lab.init import fill

    for card in fill(store, arguments.weights):
        _tell(card)


def _import(arguments: argparse.Namespace) -> None:
    from service.lab.importing import Wishes, import_model

    wishes = {name: getattr(arguments, name) for name in Wishes.__dataclass_fields__}
    _tell(import_model(open_store(_settings(arguments)), arguments.file, Wishes(**wishes)))


def _compile(arguments: argparse.Namespace) -> None:
    store = open_store(_settings(arguments))
    versions = store.versions(arguments.head)
    if not versions:
        raise CommandError(f"There is no head {arguments.head!r} in {store.root}.")
    from service.lab.recompile import recompile

    recompile(store, arguments.head, arguments.version or versions[0], arguments.engine)


def _benchmark(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments)
    bench = open_bench(settings)
    if arguments.if_missing and bench.has_report():
        return
    asked = {name: getattr(arguments, name) for name in Plan.model_fields}
    plan = Plan.model_validate({name: value for name, value in asked.items() if value is not None})
    cards = cards_in(bench.store, plan.heads)
    doing = f"Measuring {', '.join(card.head for card in cards)}, up to {plan.seconds:g} s"
    with timed(plan.seconds, doing) as on_progress:
        report = bench.measure(plan, cards, choose_engine(settings.engine), Children(), on_progress)
    if arguments.json:
        print(report.model_dump_json(indent=1))
    else:
        from service.benchmark.table import show

        show(report)


def _tell(card: Card) -> None:
    """What was published, and the assumptions that it rests on."""
    megabytes = card.structure.weight_bytes / 1e6
    print(f"{card.head} version {card.version}: {len(card.labels)} classes, head of {megabytes:.2f} MB")
    if card.training:
        parts = {"accuracy": card.training.accuracy} | card.training.accuracy_by
        scores = ", ".join(f"{name} {value:.0%}" for name, value in parts.items())
        print(f"  on {card.training.images_test} held-out pictures: {scores}")
    for note in card.notes:
        print(f"  {note}")


def _settings(arguments: argparse.Namespace) -> Settings:
    """The environment's settings, with the flags that were given on top."""
    given = {name: getattr(arguments, name, None) for name in Settings.model_fields}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
