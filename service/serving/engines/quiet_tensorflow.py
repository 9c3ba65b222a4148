"""Import this before TensorFlow or Keras: it imports them and hides their start-up messages.

TensorFlow prints some messages before its log level takes effect. Only those are hidden; all other
output reaches stderr.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

NOTES = rb"I0000 |WARNING: All log messages before absl::InitializeLog"
NO_GPU = rb"|E0000 .*failed call to cuInit"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _import_tensorflow() -> None:
    # A machine without a driver and a GPU is not an error.
    notes = re.compile(NOTES if Path("/dev/nvidiactl").exists() else NOTES + NO_GPU)
    with tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            captured.seek(0)
            for line in captured:
                if not notes.match(line):
                    os.write(2, line)


_import_tensorflow()
