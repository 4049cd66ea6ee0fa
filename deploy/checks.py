"""Whether each part of the stack answers, as cheaply as can be asked.

A check returns the part's version ("" where it does not tell), or raises `NotReady` with the
reason. The gRPC questions have empty requests and their answers are read field by field: Milvus's
own client would cost the supervisor half a second and 100 MB.
"""

import asyncio
import http.client
import json
import math
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from sqlalchemy.engine import make_url

CHECK_S = 2.0  # how long one check may take
PATIENCE_S = 15.0  # for the gateway to reach all that it uses
MILVUS_PORT = 19530
POSTGRES_PORT = 5432
TRITON_SERVICE = "/inference.GRPCInferenceService"
MILVUS_SERVICE = "/milvus.proto.milvus.MilvusService"
ANSWERS = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED)


class NotReady(Exception):  # noqa: N818 (says what is so, not that something broke)
    """The part does not answer yet, or not any more."""


Check = Callable[[], Awaitable[str]]


def triton_check(address: str) -> Check:
    """Return a check of the Triton at HOST:PORT: all its models are loaded."""

    def ask() -> str:
        with _channel(address) as channel:
            if not protobuf_field(_call(channel, f"{TRITON_SERVICE}/ServerReady"), 1):
                raise NotReady("loading models")
            return _text(protobuf_field(_call(channel, f"{TRITON_SERVICE}/ServerMetadata"), 2))

    return in_thread(ask)


def milvus_check(uri: str, version: str = "") -> Check:
    """Return a check of the Milvus at `uri`: it answers RPCs.

    `version` stands in where it does not tell its own: the embedded engine knows no GetVersion.
    """
    parts = urlsplit(uri)
    address = f"{parts.hostname}:{parts.port or MILVUS_PORT}"

    def ask() -> str:
        with _channel(address, secure=parts.scheme == "https") as channel:
            try:
                return _text(protobuf_field(_call(channel, f"{MILVUS_SERVICE}/GetVersion"), 2))
            except grpc.RpcError as error:
                if error.code() in ANSWERS:
                    return version
                raise

    return in_thread(ask)


def gateway_check(host: str, port: int, version: str, *, patience_s: float = PATIENCE_S) -> Check:
    """Return a check of the gateway: it says that searches can be answered.

    A gateway that answers with less than all has `patience_s` to reach the rest, counted from the
    first such answer; after that it counts as ready, for searches do work.
    """
    impatient_s = math.inf

    def ask() -> str:
        nonlocal impatient_s
        connection = http.client.HTTPConnection(host, port, timeout=CHECK_S)
        try:
            connection.request("GET", "/health/ready")
            reply = connection.getresponse()
            body = reply.read()
        finally:
            connection.close()
        if reply.status != http.HTTPStatus.OK:
            raise NotReady(_missing(body) or f"answers {reply.status}")
        missing = _missing(body)
        impatient_s = min(impatient_s, time.monotonic() + patience_s)
        if missing and time.monotonic() < impatient_s:
            raise NotReady(missing)
        return version

    return in_thread(ask)


def file_check(path: Path, version: str) -> Check:
    """Return a check that is true once a part has written its file."""

    def look() -> str:
        if not path.exists():
            raise NotReady("starting")
        return version

    return in_thread(look)


def database_check(url: str) -> Check:
    """Return a check of the catalogue's database: its file opens, or its server listens."""
    parsed = make_url(url)

    def ask() -> str:
        if parsed.get_backend_name() == "sqlite":
            sqlite3.connect(parsed.database or ":memory:", timeout=CHECK_S).close()
            return sqlite3.sqlite_version
        address = (parsed.host or "localhost", parsed.port or POSTGRES_PORT)
        socket.create_connection(address, timeout=CHECK_S).close()
        return ""

    return in_thread(ask)


def in_thread(ask: Callable[[], str]) -> Check:
    """Turn a blocking question into a check; what it raises becomes `NotReady`."""

    async def check() -> str:
        try:
            return await asyncio.to_thread(ask)
        except grpc.RpcError as error:
            raise NotReady(f"{error.code().name.lower()}: {error.details()}") from error
        except (OSError, http.client.HTTPException, sqlite3.Error) as error:
            raise NotReady(str(error) or type(error).__name__) from error

    return check


def _channel(address: str, *, secure: bool = False) -> grpc.Channel:
    options = [("grpc.enable_http_proxy", 0)]
    if secure:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
    return grpc.insecure_channel(address, options)


def _call(channel: grpc.Channel, method: str) -> bytes:
    """Send an empty request; returns the reply's bytes."""
    reply: bytes = channel.unary_unary(method)(b"", timeout=CHECK_S)
    return reply


def _missing(body: bytes) -> str:
    """Return what the gateway says is missing, "" where it does not say."""
    try:
        reply = json.loads(body)
        return str(reply.get("message") or ", ".join(reply["degraded"]))
    except (ValueError, KeyError, AttributeError, TypeError):
        return ""


def protobuf_field(message: bytes, wanted: int) -> bytes | int:
    """Return a field of an encoded protobuf message, 0 where it is not there.

    Reads varints and length-delimited fields, which is all that the answers hold
    (https://protobuf.dev/programming-guides/encoding/).
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        value, position = _varint(message, position)
        kind = key & 7
        if kind == 2:
            start, position = position, position + value
            if key >> 3 == wanted:
                return message[start:position]
        elif kind == 0:
            if key >> 3 == wanted:
                return value
        else:
            raise NotReady("answers with something that is not its protocol")
    return 0


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
    raise NotReady("answers with something that is cut short")


def _text(field: bytes | int) -> str:
    return field.decode(errors="replace") if isinstance(field, bytes) else ""
