"""The gateway: its routes, what every error becomes, and its lifespan."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from litestar import Litestar, MediaType, Response, get
from litestar.exceptions import HTTPException
from litestar.response import Redirect
from litestar.routes import HTTPRoute

from gateway.api import api_page, jobs, media, routes_search, videos
from gateway.api.envelope import Envelope
from gateway.api.health import Readiness
from gateway.api.logs import current_request_id
from gateway.api.metrics import CONTENT_TYPE, Metrics
from gateway.api.openapi import Operation, document
from gateway.api.service import Endpoint, Request, Service, endpoint_of, service_of
from gateway.api.streams import FileStreams
from gateway.api.uploads import Uploads
from gateway.api.watching import Watch
from gateway.doors import Doors
from gateway.errors import ConfigurationError, PixserveError, Unavailable
from gateway.rpc.server import serving_rpc
from gateway.schemas import ErrorReply, Health, Reply
from gateway.serving import Serving
from ingest.sandbox import SANDBOX

MAX_BODY_BYTES = 1024**2  # of a request whose handler sets no other limit

ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    b'<rect width="16" height="16" rx="3" fill="#2563eb"/>'
    b'<path d="M6 4l6 4-6 4z" fill="#fff"/></svg>'
)

log = logging.getLogger("pixserve.app")


class Live(Reply, frozen=True, kw_only=True):
    """`GET /health/live`."""

    status: str


LIVE = Endpoint(reply=Live)
READY = Endpoint(reply=Health, errors=(503,))


@get("/health/live", opt=LIVE.opt)
async def live() -> Live:
    """Tell that the process runs; asks nothing of the rest of the stack."""
    return Live(status="live")


@get("/health/ready", opt=READY.opt)
async def ready(request: Request) -> Response[Health]:
    """Tell whether a search can be answered, and what is missing for all of it."""
    health = await service_of(request).readiness.check()
    return Response(health, status_code=503 if health.status == "unavailable" else 200)


@get("/metrics", media_type=MediaType.TEXT)
async def metrics(request: Request) -> Response[bytes]:
    """Tell what was counted and measured, for Prometheus."""
    service = service_of(request)
    doors = service.doors
    try:
        counts = await doors.threads.call(doors.catalogue.jobs.counts)
    except Unavailable:  # what the gateway measured itself is worth telling all the same
        counts = {}
    return Response(service.metrics.render(counts, doors.embeddings), media_type=CONTENT_TYPE)


@get("/openapi.json", media_type=MediaType.JSON)
async def openapi(request: Request) -> bytes:
    """Describe the API as OpenAPI."""
    return json.dumps(_document(request.app)).encode()


@get(["/docs", "/schema"], media_type=MediaType.HTML)
async def docs(request: Request) -> Response[str]:
    """Describe the API to a person."""
    policy = {"Content-Security-Policy": api_page.CONTENT_SECURITY_POLICY}
    return Response(api_page.render(_document(request.app)), headers=policy)


@get("/", status_code=307)
async def root() -> Redirect:
    """Lead whoever opens the address itself to the description of the API."""
    return Redirect("/docs", status_code=307)


@get("/favicon.ico", media_type="image/svg+xml")
async def icon() -> Response[bytes]:
    """Give browsers the icon that they ask for without being told to."""
    return Response(ICON, headers={"Cache-Control": f"public, max-age={media.YEAR_S}"})


ROUTES = [
    *routes_search.ROUTES,
    *videos.ROUTES,
    *media.ROUTES,
    *jobs.ROUTES,
    live,
    ready,
    metrics,
    openapi,
    docs,
    root,
    icon,
]


def create_app(doors: Doors) -> Envelope:
    """Return the gateway as an ASGI application; it closes the doors when it ends."""
    serving = Serving(doors)
    service = Service(
        serving=serving,
        uploads=Uploads(doors.settings, doors.catalogue, doors.disk),
        readiness=Readiness(serving),
        metrics=Metrics(),
        patching=asyncio.Lock(),
        watch=Watch(doors),
        files=FileStreams(),
    )
    app = Litestar(
        route_handlers=[*ROUTES],
        exception_handlers={
            PixserveError: _refused,
            HTTPException: _refused_by_framework,
            Exception: _failed,
        },
        lifespan=[_lifespan(service)],
        openapi_config=None,
        logging_config=None,
        request_max_body_size=MAX_BODY_BYTES,
    )
    app.state["service"] = service
    return Envelope(app, service.metrics)


def _lifespan(service: Service) -> Any:
    @asynccontextmanager
    async def run(_app: Litestar) -> AsyncIterator[None]:
        swept = await service.doors.disk.call(service.uploads.sweep)
        if swept:
            log.info("removed what %d interrupted uploads left", swept)
        following = asyncio.create_task(service.serving.follow())
        preparing = asyncio.create_task(service.readiness.prepare_index())
        try:
            async with _rpc(service):
                yield
        finally:
            for task in (preparing, following):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await service.watch.close()
            SANDBOX.close()
            await service.serving.close()

    return run


def _rpc(service: Service) -> AbstractAsyncContextManager[int]:
    """Return what serves gRPC, where it is to be served."""
    settings = service.doors.settings
    if not settings.rpc_port:
        return nullcontext(0)
    return serving_rpc(service, settings.host, settings.rpc_port)


def _refused(_request: Request, error: PixserveError) -> Response[ErrorReply]:
    if isinstance(error, ConfigurationError):  # it names files and settings of this machine
        return _failed(_request, error)
    return _error(
        error.status,
        error.kind,
        error.message,
        reason=getattr(error, "reason", None),
        part=getattr(error, "part", None),
    )


def _refused_by_framework(_request: Request, error: HTTPException) -> Response[ErrorReply]:
    status = HTTPStatus(error.status_code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _failed(_request, error)
    kinds = {400: "invalid_request", 404: "not_found", 413: "too_large"}
    kind = kinds.get(status, status.phrase.lower().replace(" ", "_"))
    return _error(status, kind, error.detail)


def _failed(_request: Request, error: Exception) -> Response[ErrorReply]:
    log.error("a request failed", exc_info=error)
    return _error(500, "internal", "internal error")


def _error(status: int, kind: str, message: str, **where: str | None) -> Response[ErrorReply]:
    reply = ErrorReply(error=kind, message=message, request_id=current_request_id.get(), **where)
    return Response(reply, status_code=status, media_type=MediaType.JSON)


def _document(app: Litestar) -> dict[str, Any]:
    return document(_operations(app), version("pixserve"))


def _operations(app: Litestar) -> Iterator[Operation]:
    for route in app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            endpoint = endpoint_of(handler.opt)
            if endpoint is not None:
                summary = (handler.fn.__doc__ or "").partition("\n\n")[0]
                method = min(handler.http_methods - {"OPTIONS"})
                yield Operation(method, route.path_format, summary, endpoint)
