"""The routes of the API, one file a topic. gate.py and body.py handle requests before them."""
