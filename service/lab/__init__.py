"""Makes what the store holds. The only package, beside the keras engine, that imports TensorFlow."""

import service.serving.engines.quiet_tensorflow  # noqa: F401 (before any module here imports Keras)
