"""Replies of the gateway as structs, and its errors as the errors that were raised there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx
import msgspec

from gateway import errors
from gateway.errors import PixserveError, Unavailable
from gateway.schemas import ErrorReply

DEFAULT_URL = "http://127.0.0.1:8080"

T = TypeVar("T", bound=msgspec.Struct)


def read_reply(reply: httpx.Response, kind: type[T]) -> T:
    """Return the body of a reply as a struct; raises `Unavailable` where it is another."""
    return decoded(reply.content, kind, reply)


def decoded(data: bytes, kind: type[T], reply: httpx.Response) -> T:
    """Return a part of a reply as a struct; raises `Unavailable` where it is another."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise Unavailable(
            "gateway", f"{reply.url} answered {reply.status_code}, but not as pixserve does"
        ) from error


def raised(reply: httpx.Response) -> PixserveError:
    """Return the error that the gateway raised."""
    told = read_reply(reply, ErrorReply)
    kind = kinds(PixserveError).get(told.error, PixserveError)
    if issubclass(kind, errors.MediaRefused):
        return kind(told.reason or "unknown", told.message)
    if issubclass(kind, Unavailable):
        return kind(told.part or "gateway", told.message)
    if kind is PixserveError:  # a bug of the gateway: its log says more under this id
        return kind(f"{told.message} (request {told.request_id})")
    return kind(told.message)


def kinds(base: type[PixserveError]) -> dict[str, type[PixserveError]]:
    """Return a tree of errors by the word that replies name them with."""
    below = {k: v for child in base.__subclasses__() for k, v in kinds(child).items()}
    return {base.kind: base} | below


def cause(error: httpx.TransportError) -> str:
    """Return the words of an error of the network; some have none but their name."""
    return str(error) or type(error).__name__


@contextmanager
def mapped(base_url: str) -> Iterator[None]:
    """Raise our own errors in place of the HTTP library's.

    Raises:
        ConfigurationError: the address is none.
        Unavailable: no gateway answers there.
    """
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise errors.ConfigurationError(f"{base_url!r} is no URL like {DEFAULT_URL}") from error
    except httpx.TransportError as error:
        raise Unavailable("gateway", f"no gateway answers at {base_url}: {cause(error)}") from error
