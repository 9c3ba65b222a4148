"""The arguments of the command line. main.py holds the commands."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

from service.settings import Settings
from service.store.card import PREPROCESSING, Decode, Exif, Lower, Resize

ENVIRONMENT_ONLY = {"api_keys", "admin_key"}

Command = Callable[[argparse.Namespace], int | None]


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of sys.argv; the attribute `run` of its result is the chosen command."""
    top = argparse.ArgumentParser(
        "resnet-heads", description="Serve ResNet50 heads, and fill their store."
    )
    chosen = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = chosen.add_parser(name, help=text, description=text)
        added.set_defaults(run=commands[name])
        return added

    serve = command("serve", "serve the heads of the store")
    for name, field in Settings.model_fields.items():
        if name not in ENVIRONMENT_ONLY:
            serve.add_argument(_flag(name), metavar="X", help=f"{field.description} [{field.default}]")

    init = command("init", "fill an empty store with a gap and a flatten head")
    init.add_argument(
        "--weights", help="imagenet, demo, or the path of a full keras.applications weights file"
    )
    init.add_argument("--if-empty", action="store_true", help="do nothing where the store has heads")

    importing = command("import", "publish a saved model as a head: .keras, .h5, or a SavedModel folder")
    _add_import(importing)
    checking = command("check", "find out by photographs what a head was trained on")
    _add_check(checking)

    listing = command("heads", "list the versions in the store, without a server")
    listing.add_argument("--json", action="store_true", help="print JSON, not a table")

    removing = command("remove", "take a head, or one version of it, out of the store")
    removing.add_argument("target", metavar="HEAD[/VERSION]")

    compiling = command("compile", "derive the files that an engine opens from a version's model")
    compiling.add_argument("head")
    compiling.add_argument("--version", type=_count, help="default: the newest")
    compiling.add_argument("--engine", choices=("openvino", "keras"), default="openvino")

    training = command("train", "train heads on one's own photographs, and compare them")
    _add_train(training)

    quantize = command("quantize", "publish heads of lower precision, on one faster backbone")
    quantize.add_argument("heads", nargs="+", metavar="HEAD")
    quantize.add_argument("--to", choices=get_args(Lower), help="the backbone's precision [int8]")
    quantize.add_argument(
        "--head-weights",
        choices=["int8"],
        help="keep the weights of the heads' own layers so; without --to the backbone stays f32",
    )
    quantize.add_argument(
        "--images",
        type=_path,
        metavar="FOLDER",
        help="photographs in a folder a class; only --to int8 needs them, all are measured on them",
    )
    quantize.add_argument(
        "--max-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="refuse where accuracy falls by more [0.5]",
    )

    benchmark = command("benchmark", "measure latency and memory of each head")
    _add_benchmark(benchmark)
    _add_predict(command("predict", "ask a running server about pictures"))

    study = command("study", "compare the heads: accuracy, cost, and what differs by more than chance")
    study.add_argument("--html", type=_path, metavar="FILE", help="also write a page with charts")
    for added in (
        init,
        importing,
        checking,
        listing,
        removing,
        compiling,
        training,
        quantize,
        benchmark,
        study,
    ):
        added.add_argument("--store-dir", help="the model store")
    return top


def _add_train(training: argparse.ArgumentParser) -> None:
    training.add_argument("folder", type=_path, help="FOLDER/<class>/*, or train, val and test below it")
    training.add_argument(
        "--head",
        action="append",
        required=True,
        dest="heads",
        metavar="HEAD",
        help="[NAME=]POOLING[,hidden=UNITS[,UNITS...]][,dropout=RATE]; POOLING: gap, gmp, flatten, "
        "average:F[:S], max:F[:S] (filter, stride)",
    )
    training.add_argument(
        "--weights", help="imagenet, random, a head in the store, or a file [imagenet]"
    )
    training.add_argument("--seeds", type=_count, help="trainings of each head [3]")
    training.add_argument(
        "--size", type=_count, help="input side in pixels [224, or that of the head in --weights]"
    )
    training.add_argument("--decode", choices=get_args(Decode))
    training.add_argument("--resize", choices=get_args(Resize))
    training.add_argument(
        "--sizes", type=_counts, metavar="N,..", help="also train on so many pictures of each class"
    )
    training.add_argument(
        "--fine-tune",
        type=int,
        choices=range(1, 5),
        metavar="N",
        help="then also train the last N (1 to 4) stages of the backbone, as heads NAME-tuned",
    )
    training.add_argument("--cache-gb", type=float, help="most that features may take on disk [20]")
    training.add_argument("--no-cache", dest="use_cache", action="store_false", help="keep no features")


def _add_import(importing: argparse.ArgumentParser) -> None:
    importing.add_argument("file", type=_path, metavar="MODEL", help="a file or folder of any Keras")
    importing.add_argument(
        "--architecture", type=_path, metavar="FILE.json", help="of model.to_json(), for weights alone"
    )
    importing.add_argument("--head", required=True, help="name of the head")
    importing.add_argument(
        "--labels", type=_path, help="a label a line, or JSON [the folders of --check, sorted]"
    )
    importing.add_argument(
        "--check",
        type=_path,
        metavar="FOLDER",
        help="find out what training did to pixels by photographs, in a folder a class",
    )
    importing.add_argument("--size", type=int, help="input side, for a model that takes any")
    importing.add_argument(
        "--preprocessing", choices=tuple(PREPROCESSING), help="what training did to pixels from 0 to 255"
    )
    importing.add_argument(
        "--order", choices=("rgb", "bgr"), help="with --mean, --std: the order of the channels [rgb]"
    )
    importing.add_argument("--mean", type=_three, metavar="A,B,C", help="in pixel units [0,0,0]")
    importing.add_argument("--std", type=_three, metavar="A,B,C", help="in pixel units [1,1,1]")
    importing.add_argument("--resize", choices=get_args(Resize))
    importing.add_argument(
        "--exif",
        choices=get_args(Exif),
        help="EXIF orientation [ignored, as image_dataset and load_img do; else applied]",
    )
    importing.add_argument("--decode", choices=get_args(Decode), default="exact")


def _add_check(checking: argparse.ArgumentParser) -> None:
    checking.add_argument("head")
    checking.add_argument(
        "--images", required=True, type=_path, metavar="FOLDER", help="photographs in a folder a class"
    )


def _add_benchmark(benchmark: argparse.ArgumentParser) -> None:
    benchmark.add_argument("--heads", type=_names, metavar="A,B", help="default: all in the store")
    benchmark.add_argument("--engines", type=_names, metavar="E,..", help="default: the one that serves")
    benchmark.add_argument("--batch-sizes", type=_counts, metavar="N,..", help="default: 1,8")
    benchmark.add_argument("--seconds", type=float, metavar="N", help="for the whole run; default: 20")
    benchmark.add_argument("--json", action="store_true", help="print the report, not a table")
    benchmark.add_argument(
        "--if-missing", action="store_true", help="do nothing where this host has a report"
    )


def _add_predict(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("paths", nargs="+", type=_path, metavar="FILE", help="a picture, or a folder")
    predict.add_argument(
        "--head", action="append", default=[], dest="heads", help="may repeat [the server's default]"
    )
    predict.add_argument("--top-k", type=_count, default=1, metavar="N", help="classes of each [1]")
    predict.add_argument("--json", action="store_true", help="print JSON, not a table")
    predict.add_argument("--explain", type=_path, metavar="OUT", help="also write evidence maps there")
    predict.add_argument("--url", help="of the server [RESNET_HEADS_URL, or http://127.0.0.1:8000]")


def _path(text: str) -> Path:
    """Parses a path. Refuses an empty one, which would mean the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return Path(text)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(_count, _names(text)))


def _three(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, _names(text)))
    except ValueError:
        numbers = ()
    if len(numbers) != 3:  # noqa: PLR2004 (three channels)
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers, such as 103.9,116.8,123.7")
    return numbers


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
