"""A Python client of the service that needs neither the server's libraries nor an engine.

with Client("http://localhost:8000") as client:
    print(client.predict("a.jpg", head="gap").results[0].predictions[0].label)
"""

from service.client.clients import DEFAULT_URL, AsyncClient, Client
from service.client.errors import CallFailed, NotUnderstood, Refused, TimedOut, Unreachable, WrongUrl

__all__ = [
    "DEFAULT_URL",
    "AsyncClient",
    "CallFailed",
    "Client",
    "NotUnderstood",
    "Refused",
    "TimedOut",
    "Unreachable",
    "WrongUrl",
]
