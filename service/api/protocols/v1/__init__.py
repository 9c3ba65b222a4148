"""TensorFlow Serving's REST API: its clients only change the URL. A model is a head."""
