"""The schemas of requests and answers. They do not import FastAPI, because the client imports them."""
