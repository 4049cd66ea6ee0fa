"""Calls to Milvus: one gRPC channel, and Milvus' failures told as pixserve's errors.

The generated stubs that pymilvus carries are used, not pymilvus' clients: those retry an
unreachable server until the time is up, log a traceback for each failure, and make the three legs
of a search a quarter slower. Futures of the synchronous channel are as quick as grpc.aio and belong
to no event loop.

A call that nobody waits for any more is not cancelled: a Milvus that stood still reads both, call
and cancellation, when it goes on, and works the call off all the same, before those that are waited
for. It stays counted until it ends instead, and `gateway.congestion` keeps others back meanwhile.
"""

import asyncio
import base64
import contextlib
import logging
import time
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import grpc
from pymilvus.grpc_gen import milvus_pb2_grpc

from gateway.congestion import CallLimit
from gateway.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    PixserveError,
    Unavailable,
    Unsupported,
)

MAX_MESSAGE_BYTES = 64 * 1024**2  # of one call or reply; Milvus' own default
CONNECT_MS = 5_000  # of one attempt to connect
FIRST_BACK_OFF_MS = 100
MAX_BACK_OFF_MS = 1_000  # between attempts to reconnect: a restarted Milvus is found within it
FINISH_S = 5.0  # that a call may run on after its deadline; then Milvus is asked anew
MAX_REASON_CHARS = 300  # of Milvus' own words in a message or in the log

COLLECTION_NOT_FOUND = 100
INVALID_CODES = range(1100, 1200)  # Milvus' codes for wrong parameters
UNPLANNED = "cannot parse expression"  # Milvus before 2.4 has no code of its own for it
INVALID_STATUSES = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)

Message = Any  # generated protobuf classes carry no types

log = logging.getLogger("pixserve.milvus")


class Calls:
    """Sends requests to one Milvus; connects when first used.

    Args:
        uri: `http://HOST:PORT`, `https://…` for TLS, with `TOKEN@` or `USER:PASSWORD@` before the
            host where Milvus asks for them.

    Raises:
        ConfigurationError: the URI is not like that.
    """

    def __init__(self, uri: str) -> None:
        parts = _split(uri)
        self.address = f"{parts.hostname}:{parts.port}"
        self._metadata = _credentials(parts)
        self._channel = _open_channel(self.address, tls=parts.scheme == "https")
        self._stub = milvus_pb2_grpc.MilvusServiceStub(self._channel)
        self._limit = CallLimit("milvus")

    async def send(self, method: str, request: Message, until: float) -> Message:
        """Send a request and return the reply, whose status is that of success.

        Args:
            method: the name in Milvus' service, e.g. `Search`.
            request: its message.
            until: when the reply is no longer wanted, on `time.monotonic()`'s clock.

        Raises:
            DeadlineExceeded: no reply until then.
            InvalidRequest: Milvus refuses a parameter.
            Unsupported: this Milvus does not know the method.
            Unavailable: it cannot be reached, or fails.
        """
        reply = await self._reply(method, request, until)
        status: Message = getattr(reply, "status", reply)  # some replies are a bare status
        if status.code or status.error_code:
            raise status_error(method, status.code or status.error_code, status.reason)
        return reply

    async def _reply(self, method: str, request: Message, until: float) -> Message:
        """Return the raw reply; cancelled, it lets the call run to its end."""
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded("milvus", f"no time was left for Milvus to {method}")
        begun = await self._limit.begin(left_s)
        done = asyncio.Event()
        call = self._start(method, request, begun.allowed_s + FINISH_S, done)
        try:
            async with asyncio.timeout(begun.allowed_s):
                await done.wait()
            reply = call.result()
            self._limit.answered()
            return reply
        except TimeoutError as error:
            raise DeadlineExceeded("milvus", f"Milvus took too long to {method}") from error
        except grpc.FutureCancelledError as error:
            raise Unavailable("milvus", "the connection to Milvus was closed") from error
        except grpc.RpcError as error:
            raise rpc_error(self.address, method, error.code(), error.details()) from error
        finally:
            if not done.is_set():
                self._limit.given_up(begun)

    def _start(self, method: str, request: Message, timeout_s: float, done: asyncio.Event) -> Any:
        """Send a call that the limit has counted; `done` is set when it has ended."""
        loop = asyncio.get_running_loop()

        def end(_: object) -> None:
            self._limit.end()
            _wake(loop, done)

        try:
            stub = getattr(self._stub, method)
            call = stub.future(request, timeout=timeout_s, metadata=self._metadata)
        except ValueError as error:  # what grpc raises on a closed channel
            self._limit.end()
            raise Unavailable("milvus", "the connection to Milvus is closed") from error
        call.add_done_callback(end)
        return call

    def close(self) -> None:
        """Close the connection; calls that run fail with `Unavailable`."""
        self._channel.close()


def _wake(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    """Tell the task that waits for a call, from grpc's thread."""
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(done.set)


def rpc_error(
    address: str, method: str, code: grpc.StatusCode, details: str | None
) -> PixserveError:
    """Return the error of a call that gRPC failed; address and details go to the log alone."""
    if code is grpc.StatusCode.UNIMPLEMENTED:  # of the embedded engine, which is asked what it can
        return Unsupported("milvus", f"this Milvus does not know {method}")
    reason = (details or "")[:MAX_REASON_CHARS]
    log.warning("Milvus at %s, %s: %s: %s", address, method, code.name, reason)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("milvus", f"Milvus took too long to {method}")
    if code in INVALID_STATUSES:
        return InvalidRequest(f"Milvus refused to {method}: {reason}")
    return Unavailable("milvus", f"Milvus is not reachable ({code.name}); try again later")


def status_error(method: str, code: int, reason: str) -> PixserveError:
    """Return the error of a call that Milvus answered with a failure."""
    reason = reason[:MAX_REASON_CHARS]
    if code in INVALID_CODES or UNPLANNED in reason:
        return InvalidRequest(f"Milvus refused to {method}: {reason}")
    log.warning("Milvus, %s: code %d: %s", method, code, reason)
    if code == COLLECTION_NOT_FOUND:
        return CollectionMissing("milvus", "the index is not there yet")
    return Unavailable("milvus", f"Milvus failed to {method} (code {code}); try again later")


class CollectionMissing(Unavailable):
    """The collection was not made yet."""


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port
    except ValueError:
        valid = False
    if not valid:
        raise ConfigurationError(
            "the address of Milvus must be like http://HOST:PORT, or https:// for TLS, with "
            "USER:PASSWORD@ or TOKEN@ before the host where it asks for them"
        )
    return parts


def _credentials(parts: SplitResult) -> tuple[tuple[str, str], ...]:
    if "@" not in parts.netloc:
        return ()
    secret = unquote(parts.netloc.rpartition("@")[0])
    return (("authorization", base64.b64encode(secret.encode()).decode()),)


def _open_channel(address: str, *, tls: bool) -> grpc.Channel:
    options = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", FIRST_BACK_OFF_MS),
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS),  # by this name, gRPC's time to connect
        ("grpc.max_reconnect_backoff_ms", MAX_BACK_OFF_MS),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.use_local_subchannel_pool", 1),  # a door of its own, a connection of its own
    ]
    if tls:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
    return grpc.insecure_channel(address, options)
