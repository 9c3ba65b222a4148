"""What the routes are given to work with."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.api.guards import Limits, check_key
from service.api.metrics import Metrics
from service.errors import NotReady
from service.serving.classifier import Classifier
from service.serving.heads import Heads


@dataclass(frozen=True)
class Room:
    """The collaborators of one application."""

    classifier: Classifier
    metrics: Metrics
    limits: Limits
    default_head: str
    required_heads: tuple[str, ...]
    api_keys: tuple[str, ...]

    @property
    def heads(self) -> Heads:
        return self.classifier.heads

    def engine_name(self) -> str:
        """The engine that runs every head. Raises NotReady before it is open."""
        if self.heads.engine_name is None:
            raise NotReady(" ".join(self.heads.missing(())))
        return self.heads.engine_name


def _room(request: Request) -> Room:
    room: Room = request.app.state.room
    return room


InRoom = Annotated[Room, Depends(_room)]


def needs_key(
    room: InRoom,
    key: Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))],
) -> None:
    """A dependency of the routes that ask for a key where keys are set, in either header."""
    check_key(room.api_keys, bearer.credentials if bearer else key)
