"""The command line, one function per command. An error prints one line and exits with 2.

A command imports what it needs itself, so that it starts soon.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from service.cli.arguments import Command, parser
from service.cli.listing import show_heads
from service.console import say, timed
from service.errors import CommandError, ServiceError, UnknownHead, reason_of
from service.settings import Settings
from service.store.card import PREPROCESSING, Card, Preprocessing, Quantization
from service.store.layout import VERSION, Store, default_cache
from service.store.removal import remove


def main(words: Sequence[str] | None = None) -> None:
    """Runs the command of these words, or else of sys.argv, and exits with its code.

    0: done; 1: done in part; 2: refused; 130: interrupted.
    """
    arguments = parser(COMMANDS).parse_args(words)
    try:
        sys.exit(arguments.run(arguments))
    except (ServiceError, ValidationError, OSError, ModuleNotFoundError) as exc:
        say(f"resnet-heads: {sentence(exc)}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as exc:
        if _was_interrupted(exc):
            sys.exit(130)
        raise


def _was_interrupted(exc: BaseException | None) -> bool:
    """Whether an error came of an interrupt: TensorFlow's own cleaning up after one may fail."""
    while exc and not isinstance(exc, KeyboardInterrupt):
        exc = exc.__cause__ or exc.__context__
    return exc is not None


def sentence(exc: Exception) -> str:
    """The error message of a command that failed."""
    match exc:
        case ValidationError():
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"]))
            return f"setting {where}: {first['msg']}." if where else f"The settings: {first['msg']}."
        case OSError():
            files = " -> ".join(str(name) for name in (exc.filename, exc.filename2) if name)
            return f"{files or 'The system'}: {reason_of(exc)}."
        case ModuleNotFoundError():
            return f"This command needs {exc.name}, which is not installed here."
        case _:
            return str(exc)


def _serve(arguments: argparse.Namespace) -> None:
    from service.cli.serve import serve

    serve(_settings(arguments))


def _init(arguments: argparse.Namespace) -> None:
    from service.lab.checks import check_init

    store = _store(arguments)
    if arguments.if_empty and store.heads():
        return
    check_init(store, arguments.weights)
    from service.lab.init import fill

    for card in fill(store, arguments.weights):
        _tell(card)


def _import(arguments: argparse.Namespace) -> None:
    from service.lab.models.importing import ImportOptions, import_model

    arguments.preprocessing = _preprocessing(arguments)
    wishes = {name: getattr(arguments, name) for name in ImportOptions.__dataclass_fields__}
    card = import_model(_store(arguments), arguments.file, ImportOptions(**wishes))
    _tell(card)
    if not arguments.check and any(note.startswith("assumed --") for note in card.notes):
        place = f" --store-dir {shlex.quote(arguments.store_dir)}" if arguments.store_dir else ""
        print(f"  to settle it: resnet-heads check {card.head} --images FOLDER{place}")


def _preprocessing(arguments: argparse.Namespace) -> Preprocessing | None:
    """What `import` was told of the pixels: by name, or by order, mean and std; None for nothing."""
    told = {name: getattr(arguments, name) for name in Preprocessing.model_fields}
    given = {name: value for name, value in told.items() if value is not None}
    if not given:
        return PREPROCESSING[arguments.preprocessing] if arguments.preprocessing else None
    if arguments.preprocessing:
        raise CommandError("Say --preprocessing, or --order, --mean and --std, not both.")
    return Preprocessing(**given)


def _check(arguments: argparse.Namespace) -> int:
    from service.benchmark.plan import cards_in
    from service.lab.checking.check import check_head

    store = _store(arguments)
    (card,) = cards_in(store, [arguments.head])
    better = check_head(store, card, arguments.images)
    if better is None:
        print(
            f"No other input is better than that of {card.head} version {card.version}, as far as "
            "these pictures tell."
        )
        return 0
    print(f"To publish {card.head} with the better input:\n{better}")
    return 1


def _train(arguments: argparse.Namespace) -> None:
    from service.lab.checks import check_train
    from service.lab.training.head_spec import parse_head

    store = _store(arguments)
    arguments.heads = tuple(map(parse_head, arguments.heads))
    is_tuned = arguments.fine_tune is not None
    check_train(store, arguments.folder, arguments.heads, arguments.weights, is_tuned=is_tuned)
    from service.lab.training.train import TrainOptions, train

    given = {name: getattr(arguments, name) for name in TrainOptions.__dataclass_fields__}
    wishes = TrainOptions(**{name: value for name, value in given.items() if value is not None})
    for card in train(store, arguments.folder, wishes):
        _tell(card)


def _heads(arguments: argparse.Namespace) -> None:
    show_heads(_store(arguments), as_json=arguments.json)


def _remove(arguments: argparse.Namespace) -> None:
    store = _store(arguments)
    head, is_numbered, number = arguments.target.partition("/")
    if is_numbered and not VERSION.fullmatch(number):
        raise CommandError(f"{arguments.target!r} is neither HEAD nor HEAD/VERSION.")
    removal = remove(store, head, _versions(store, head, int(number) if is_numbered else None))
    numbers = ", ".join(map(str, removal.versions))
    print(f"Removed {head} version {numbers}: {removal.version_bytes / 1e6:.1f} MB")
    if removal.compiled_bytes:
        megabytes = removal.compiled_bytes / 1e6
        print(f"Removed compiled files that no other version uses: {megabytes:.1f} MB")
    for note in removal.notes:
        print(f"  {note}")


def _compile(arguments: argparse.Namespace) -> None:
    from service.lab.models.recompile import recompile

    store = _store(arguments)
    versions = _versions(store, arguments.head, arguments.version)
    recompile(store, arguments.head, versions[0], arguments.engine)


def _quantize(arguments: argparse.Namespace) -> None:
    from service.benchmark.plan import cards_in
    from service.lab.checks import check_quantize
    from service.lab.precision.choice import Choice

    store = _store(arguments)
    cards = cards_in(store, list(dict.fromkeys(arguments.heads)))
    choice = Choice(
        arguments.to or ("f32" if arguments.head_weights else "int8"), arguments.head_weights or "f32"
    )
    wishes = (choice, arguments.images, arguments.max_drop)
    check_quantize(store, cards, *wishes)
    from service.lab.precision.quantize import quantize

    for card in quantize(store, cards, *wishes):
        _tell(card)


def _benchmark(arguments: argparse.Namespace) -> None:
    from service.app import open_bench
    from service.benchmark.children import Children
    from service.benchmark.plan import Plan, cards_in
    from service.serving.engines import choose_engine

    settings = _settings(arguments)
    bench = open_bench(settings)
    if arguments.if_missing and bench.has_report():
        return
    asked = {name: getattr(arguments, name) for name in Plan.model_fields}
    plan = Plan.model_validate({name: value for name, value in asked.items() if value is not None})
    cards = cards_in(bench.store, plan.heads)
    doing = f"Measuring {', '.join(card.head for card in cards)}, up to {plan.seconds:g} s"
    with timed(plan.seconds, doing) as tell:
        engine = choose_engine(settings.engine)
        report = bench.measure(plan, cards, engine, Children(), lambda _: tell())
    if arguments.json:
        print(report.model_dump_json(indent=1))
    else:
        from service.benchmark.table import show_report

        show_report(report)


def _predict(arguments: argparse.Namespace) -> int:
    from service.cli.predict import Asking, predict_files
    from service.client import DEFAULT_URL, Client

    url = os.environ.get("RESNET_HEADS_URL", DEFAULT_URL) if arguments.url is None else arguments.url
    with Client(url, api_key=os.environ.get("RESNET_HEADS_API_KEY")) as client:
        asking = Asking(client, arguments.heads, arguments.top_k, arguments.explain)
        return predict_files(asking, arguments.paths, arguments.json)


def _study(arguments: argparse.Namespace) -> None:
    from service.app import open_bench
    from service.study.page import check, write_page
    from service.study.study import study_of
    from service.study.table import show_study

    if arguments.html:
        check(arguments.html)
    study = study_of(open_bench(_settings(arguments)))
    show_study(study)
    if arguments.html:
        write_page(study, arguments.html)
        say(f"Written: {arguments.html}")


def _versions(store: Store, head: str, version: int | None) -> list[int]:
    """The versions of a head, newest first, or only the named one.

    Raises UnknownHead or CommandError.
    """
    known = store.heads()
    if head not in known:
        raise UnknownHead(head, known)
    versions = store.versions(head)
    if version is None:
        return versions
    if version not in versions:
        have = ", ".join(map(str, versions))
        raise CommandError(f"Head {head} has no version {version}; versions in the store: {have}.")
    return [version]


def _tell(card: Card) -> None:
    """Prints what was published, and the assumptions in its notes."""
    megabytes = card.structure.weight_bytes / 1e6
    print(f"{card.head} version {card.version}: {len(card.labels)} classes, head of {megabytes:.2f} MB")
    if card.training:
        parts = {"accuracy": card.training.accuracy} | card.training.accuracy_by
        scores = ", ".join(f"{name} {value:.0%}" for name, value in parts.items())
        print(f"  on {card.training.images_test} held-out pictures: {scores}")
    if made := card.quantization:
        print(f"  {card.precision} backbone of {made.weight_bytes / 1e6:.1f} MB; {_cost(made)}")
    for note in card.notes:
        print(f"  {note}")


def _cost(made: Quantization) -> str:
    """What a lower precision cost, where that was measured."""
    if made.accuracy_before is None:
        return "what it costs in accuracy was not measured: --images FOLDER does"
    return (
        f"accuracy: {made.accuracy_before:.1%} before, {made.accuracy_after:.1%} after\n"
        f"  the same answer for {made.agreement:.1%} of {made.images_test} held-out pictures; "
        f"probabilities change by at most {made.largest_change:.3f}"
    )


def _settings(arguments: argparse.Namespace) -> Settings:
    """The settings from the environment, overridden by the flags that were given."""
    given = {name: getattr(arguments, name, None) for name in Settings.model_fields}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _store(arguments: argparse.Namespace) -> Store:
    settings = _settings(arguments)
    return Store(settings.store_dir, settings.cache_dir or default_cache())


COMMANDS: dict[str, Command] = {
    "serve": _serve,
    "init": _init,
    "import": _import,
    "heads": _heads,
    "remove": _remove,
    "check": _check,
    "compile": _compile,
    "train": _train,
    "quantize": _quantize,
    "benchmark": _benchmark,
    "predict": _predict,
    "study": _study,
}
