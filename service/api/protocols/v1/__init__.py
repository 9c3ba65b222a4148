"""TensorFlow Serving's REST API, so that a URL is all its users need to change. A model is a head."""
