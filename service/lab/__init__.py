"""Creates the versions in the store. Only this package and the keras engine import TensorFlow."""

import service.serving.engines.quiet_tensorflow  # noqa: F401 (before any module here imports Keras)
