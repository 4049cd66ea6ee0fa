"""The gRPC server beside the HTTP one, in the same event loop: a thin way to the same search."""

import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
import grpc.aio
import msgspec

from gateway.api.logs import current_request_id
from gateway.api.service import Service
from gateway.errors import ConfigurationError, PixserveError
from gateway.rpc.messages import message_of, request_of
from gateway.rpc.search_pb2 import DESCRIPTOR
from gateway.rpc.search_pb2 import SearchReply as ReplyMessage
from gateway.rpc.search_pb2 import SearchRequest as RequestMessage
from gateway.schemas import SearchReply
from gateway.search.search import search

MAX_MESSAGE_BYTES = 60 * 1024**2  # an image, a sound and a clip at their limits, and the words
MAX_CALLS = 1_024  # at once; further ones are refused with RESOURCE_EXHAUSTED
GRACE_S = 10.0  # for calls that run when the gateway stops
NAME = DESCRIPTOR.services_by_name["Search"].full_name
ROUTE = f"/{NAME}/Search"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # a client's own id is used if it is like this

CANCELLED = 499  # in the log and the metrics: the client gave the call up, or its time was over

# What an error of each HTTP status is over gRPC.
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

log = logging.getLogger("pixserve.rpc")

Context = Any  # grpc carries no types


@asynccontextmanager
async def serving_rpc(service: Service, host: str, port: int) -> AsyncIterator[int]:
    """Answer calls while the block runs; calls that run at its end are finished.

    Args:
        service: what answers.
        host: to listen on.
        port: to listen on; 0: any that is free.

    Yields:
        The port.

    Raises:
        ConfigurationError: the port cannot be listened on.
    """
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)
    server.add_generic_rpc_handlers([_handlers(service)])
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound: int = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigurationError(
            f"the gRPC port {address} cannot be listened on: choose another PIXSERVE_RPC_PORT"
        ) from error
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(GRACE_S)


def _handlers(service: Service) -> grpc.GenericRpcHandler:
    async def answer(message: RequestMessage, context: Context) -> ReplyMessage:
        return await _answer(service, message, context)

    method = grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=RequestMessage.FromString,
        response_serializer=ReplyMessage.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(NAME, {"Search": method})


@dataclass(frozen=True)
class Failure:
    """Why a call is not answered, for its client."""

    status: int  # as over HTTP
    kind: str
    message: str
    more: Mapping[str, str] = field(default_factory=dict)  # reason, part


INTERNAL = Failure(500, "internal", "internal error")


async def _answer(service: Service, message: RequestMessage, context: Context) -> ReplyMessage:
    """Answer one call: give it an id, measure it, and tell its error in gRPC's terms."""
    request_id = _request_id(context)
    current_request_id.set(request_id)
    begin, status = time.perf_counter(), CANCELLED
    try:
        outcome = await _outcome(service, message, context.time_remaining())
        status = outcome.status if isinstance(outcome, Failure) else 200
    finally:
        _record(service, status, time.perf_counter() - begin)
    if isinstance(outcome, Failure):
        await _abort(context, outcome, request_id)
    context.set_trailing_metadata((("x-request-id", request_id),))
    return message_of(msgspec.structs.replace(outcome, request_id=request_id))


async def _outcome(
    service: Service, message: RequestMessage, left_s: float | None
) -> SearchReply | Failure:
    try:
        doors = service.doors
        found = await search(request_of(message, left_s), doors, doors.settings)
        service.metrics.observe_search(found)
        return found
    except PixserveError as error:
        return _failure(error)
    except Exception as error:
        log.error("a call failed", exc_info=error)
        return INTERNAL


def _failure(error: PixserveError) -> Failure:
    if isinstance(error, ConfigurationError):  # it names files and settings of this machine
        log.error("a call failed", exc_info=error)
        return INTERNAL
    told = {"reason": getattr(error, "reason", ""), "part": getattr(error, "part", "")}
    more = {name: value for name, value in told.items() if value}
    return Failure(error.status, error.kind, error.message, more)


def _record(service: Service, status: int, seconds: float) -> None:
    service.metrics.observe_request("GRPC", ROUTE, status, seconds)
    level = logging.ERROR if status >= 500 else logging.INFO
    log.log(level, "GRPC %s", ROUTE, extra={"status": status, "ms": round(seconds * 1_000, 2)})


async def _abort(context: Context, failure: Failure, request_id: str) -> NoReturn:
    trailing = {"x-request-id": request_id, "pixserve-error": failure.kind}
    trailing |= {f"pixserve-{name}": value for name, value in failure.more.items()}
    await context.abort(CODES[failure.status], failure.message, tuple(trailing.items()))
    raise AssertionError("abort raises")


def _request_id(context: Context) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == "x-request-id" and isinstance(value, str) and REQUEST_ID.fullmatch(value):
            return value
    return secrets.token_hex(8)
