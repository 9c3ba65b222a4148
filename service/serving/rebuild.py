"""Rebuilds missing compiled files in a child process that runs the lab's code."""

import os
import sys
import threading
from collections.abc import Sequence

from service.errors import RebuildInterrupted, VersionError
from service.serving import child_process
from service.serving.engines import EngineName, has_tensorflow
from service.store.layout import Store

COMMAND = (sys.executable, "-m", "service.lab.models.recompile")
LIMIT_S = 300


def compile_in_child(
    store: Store,
    head: str,
    version: int,
    engine: EngineName,
    *,
    stopping: threading.Event = child_process.NEVER,
    limit_s: float = LIMIT_S,
    command: Sequence[str] = COMMAND,
) -> None:
    """Compiles a version in a child process, which may import TensorFlow.

    Raises VersionError with the last line that the process printed, or with the command to run if
    TensorFlow is not installed; RebuildInterrupted if another try may succeed.
    """
    if not has_tensorflow():
        by_hand = f"resnet-heads compile {head} --version {version} --engine {engine}"
        raise VersionError(f"it is not compiled for {engine}; run: {by_hand} (needs TensorFlow).")
    failed = f"it could not be compiled for {engine}"
    arguments = (str(store.root), str(store.cache), head, str(version), engine)
    try:
        ended = child_process.run([*command, *arguments], limit_s, stopping)
    except OSError as exc:
        raise RebuildInterrupted(f"{failed}: {exc}.") from exc
    if ended.status < 0:
        raise RebuildInterrupted(f"{failed}: signal {-ended.status} ended the compilation.")
    if ended.status:
        refusal = RebuildInterrupted if ended.status == os.EX_TEMPFAIL else VersionError
        raise refusal(f"{failed}: {ended.last_line}")
