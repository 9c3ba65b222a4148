"""Derives missing compiled files again. The work is the lab's; this only starts it."""

import os
import subprocess
import sys

from service.errors import VersionError
from service.serving.engines import EngineName, has_tensorflow
from service.store.layout import Store


def compile_in_child(store: Store, head: str, version: int, engine: EngineName) -> None:
    """Derives the compiled files of a version in a process of its own, which may import TensorFlow.

    Raises VersionError with the last line that the process printed, or with the command to run
    where TensorFlow is not installed.
    """
    command = f"resnet-heads compile {head} --version {version} --engine {engine}"
    if not has_tensorflow():
        raise VersionError(f"it is not compiled for {engine}; run: {command} (needs TensorFlow).")
    places = {"RESNET_HEADS_STORE_DIR": str(store.root), "RESNET_HEADS_CACHE_DIR": str(store.cache)}
    child = subprocess.run(
        [sys.executable, "-m", "service", *command.split()[1:]],
        env=os.environ | places,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise VersionError(f"it could not be compiled for {engine}: {last}")
