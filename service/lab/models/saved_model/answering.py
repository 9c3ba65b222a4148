"""Has TensorFlow run a SavedModel's signature, in a child process that is given time and then ended."""

import service.serving.engines.quiet_tensorflow  # noqa: F401 (before Keras)

# isort: split

import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.console import say
from service.errors import CommandError
from service.lab.models.saved_model.flattening import first_line, restored
from service.lab.models.saved_model.signature import read_signature
from service.serving import child_process

COMMAND = (sys.executable, "-m", "service.lab.models.saved_model.answering")
LIMIT_S = 300
INPUTS, SCORES = "inputs.npy", "scores.npy"


def scores_of(
    folder: Path, inputs: NDArray[np.generic], limit_s: float = LIMIT_S
) -> NDArray[np.float32]:
    """What the signature of a SavedModel answers to `inputs`, each asked alone, (n, ...) -> (n, units).

    Raises CommandError if TensorFlow cannot run it, or not within `limit_s`.
    """
    with tempfile.TemporaryDirectory() as place:
        np.save(Path(place, INPUTS), inputs)
        try:
            ended = child_process.run([*COMMAND, str(folder.resolve()), place], limit_s)
        except (OSError, TimeoutError) as exc:
            raise CommandError(f"TensorFlow cannot run the model: {exc}.") from exc
        if ended.status:
            raise CommandError(f"TensorFlow cannot run the model: {ended.last_line}")
        scores: NDArray[np.float32] = np.load(Path(place, SCORES))
    return scores


def main() -> None:
    """Answers the inputs in a folder, both in sys.argv; ends when stdin closes: the parent has ended."""
    child_process.end_with_parent()
    folder, place = map(Path, sys.argv[1:])
    try:
        signature = read_signature(folder)
        with restored(signature, folder) as session:
            scores = [
                session.run(signature.scores, {signature.pixels: one[np.newaxis]})
                for one in np.load(place / INPUTS)
            ]
    except Exception as exc:  # TensorFlow raises its own errors.
        say(first_line(exc))
        sys.exit(2)
    np.save(place / SCORES, np.concatenate(scores).astype(np.float32))


if __name__ == "__main__":
    main()
