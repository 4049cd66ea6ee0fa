"""What the handlers of one gateway share."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
from litestar import Request as LitestarRequest
from litestar.datastructures import State

from gateway.api.decoding import Query
from gateway.api.health import Readiness
from gateway.api.metrics import Metrics
from gateway.api.streams import FileStreams
from gateway.api.uploads import Uploads
from gateway.api.watching import Watch
from gateway.doors import Doors
from gateway.serving import Serving

Request: TypeAlias = LitestarRequest[Any, Any, State]


@dataclass(frozen=True)
class Service:
    """The parts behind the routes."""

    serving: Serving
    uploads: Uploads
    readiness: Readiness
    metrics: Metrics
    patching: asyncio.Lock  # changes of metadata reach the index in the catalogue's order
    watch: Watch
    files: FileStreams

    @property
    def doors(self) -> Doors:
        """The doors of the version that is current now: a request takes them once."""
        return self.serving.doors


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    service: Service = request.app.state["service"]
    return service


@dataclass(frozen=True)
class Endpoint:
    """What the API's description tells of a route; kept beside its handler as `opt`."""

    reply: Any  # the type of the reply's body
    status: int = 200
    query: Query[Any] | None = None
    body: type[msgspec.Struct] | None = None
    form: Mapping[str, Any] = field(default_factory=dict)  # part → type; bytes are a file
    errors: tuple[int, ...] = ()
    media_type: str = "application/json"  # of the reply
    also: tuple[int, ...] = ()  # other statuses that are no errors: 206, 304

    @property
    def opt(self) -> dict[str, Any]:
        """The keyword argument of a handler that carries this."""
        return {"endpoint": self}


def endpoint_of(options: Mapping[str, Any]) -> Endpoint | None:
    """Return what a handler's `opt` carries, None for a route that the API does not describe."""
    found = options.get("endpoint")
    return found if isinstance(found, Endpoint) else None
