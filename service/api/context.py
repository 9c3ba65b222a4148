"""What the routes are given to work with."""

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.api.access import Keys
from service.api.guards import Limits, check_key, key_in
from service.api.metrics import Metrics
from service.benchmark.bench import Bench
from service.errors import NotReady
from service.serving.capacity import STOPPING
from service.serving.classifier import Classifier
from service.serving.engines import EngineName
from service.serving.heads import Heads
from service.serving.loading import LoadedHead

ENDED = "The engine's thread has ended; the process must be restarted."


@dataclass(frozen=True)
class Room:
    """The collaborators of one application."""

    classifier: Classifier
    metrics: Metrics
    bench: Bench
    limits: Limits
    stopping: Event
    default_head: str
    required_heads: tuple[str, ...]
    api_keys: Keys
    admin_keys: Keys

    @property
    def heads(self) -> Heads:
        return self.classifier.heads

    def missing(self) -> list[str]:
        """Why the service is not ready, a sentence each; so it is once it has been told to stop."""
        if self.stopping.is_set():
            return [STOPPING]
        if self.classifier.batcher.has_ended():
            return [ENDED]
        return self.heads.missing(self.required_heads)

    def engine_name(self) -> EngineName:
        """The engine that runs every head. Raises NotReady before it is open."""
        if self.heads.engine_name is None:
            raise NotReady(" ".join(self.heads.missing(())))
        return self.heads.engine_name

    def choose_one(self, name: str | None, version: int | None) -> LoadedHead:
        """The named head, the default one when None. Raises what `heads.get` does."""
        return self.heads.get(self.default_head if name is None else name, version)

    def choose(self, names: Iterable[str] | None) -> list[LoadedHead]:
        """The named heads, each once; all that serve when None. Raises what `heads.get` does."""
        if names is not None:
            return [self.heads.get(name) for name in dict.fromkeys(names)]
        self.engine_name()  # not ready yet is another answer than an empty store
        if serving := self.heads.serving():
            return list(serving.values())
        raise NotReady(" ".join(self.heads.missing(())))


# Dependencies are coroutines: FastAPI would run each plain function in a thread.


async def _room(request: Request) -> Room:
    room: Room = request.app.state.room
    return room


InRoom = Annotated[Room, Depends(_room)]

Key = Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))]


async def _given(request: Request, _key: Key, _bearer: Bearer) -> str | None:
    """The key in either header, as the gate reads it; the schemes are there for openapi.yaml."""
    return key_in(request.headers)


GivenKey = Annotated[str | None, Depends(_given)]


async def needs_key(request: Request, room: InRoom, given: GivenKey) -> None:
    """A dependency of the routes that ask for a key where keys are set, in either header.

    What has a permit has shown its key at the gate.
    """
    if not hasattr(request.state, "permit"):
        check_key(room.api_keys(), given)


async def needs_admin(room: InRoom, given: GivenKey) -> None:
    """The same for what only an administrator may do, where there is an admin key."""
    check_key(room.admin_keys() or room.api_keys(), given)
