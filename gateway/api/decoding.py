"""Requests decoded strictly: types as written, no unknown fields, messages that name the field."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from gateway.errors import InvalidRequest
from gateway.schemas import Id

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True)
class Query(Generic[T]):
    """The query parameters of a route.

    Args:
        kind: the struct that they make up.
        aliases: parameter → field, where the names differ.
        hidden: fields that are no parameters.
    """

    kind: type[T]
    aliases: Mapping[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()


def decode_json(body: bytes, kind: type[T], what: str = "the body") -> T:
    """Return a JSON body as a struct; raises `InvalidRequest` that names the field."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{what}: {error}{_choices(error, kind)}") from error


def decode_query(pairs: Iterable[tuple[str, str]], query: Query[T]) -> T:
    """Return query parameters as a struct; raises `InvalidRequest` that names the parameter.

    A parameter of a nested struct is written with a dot, `filters.min_pix=10`; one that holds
    several values is repeated, `filters.tags=a&filters.tags=b`.
    """
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name in query.hidden or name in query.aliases.values():
            raise InvalidRequest(f"{name[:100]!r} is no query parameter here")
        _put(given, query.kind, query.aliases.get(name, name), value)
    try:
        return msgspec.convert(given, query.kind, strict=False)
    except msgspec.ValidationError as error:
        told = f"the query parameters: {error}{_choices(error, query.kind)}"
        raise InvalidRequest(told) from error


def checked_id(value: str, what: str) -> str:
    """Return an id from a path if it is one; raises `InvalidRequest`."""
    try:
        return msgspec.convert(value, Id)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"{what}: an id is 1 to 64 letters, digits, - and _, not {value[:70]!r}"
        ) from error


def _choices(error: Exception, kind: type[msgspec.Struct]) -> str:
    """Return the words that a field takes, where another one was given; else nothing."""
    if not str(error).startswith("Invalid enum value"):
        return ""
    path = str(error).rpartition(" - at `$.")[2].rstrip("`").split(".")
    for name in path[:-1]:
        kind = nested_structs(kind).get(name, kind)
    known = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"]
    choices = known.get(path[-1], {}).get("enum", ())
    return f"; one of {', '.join(map(str, choices))}" if choices else ""


def _put(given: dict[str, Any], kind: type[msgspec.Struct], name: str, value: str) -> None:
    """Enter one parameter where its name says."""
    head, dot, rest = name.partition(".")
    nested = nested_structs(kind).get(head)
    if dot and nested is not None:
        _put(given.setdefault(head, {}), nested, rest, value)
    elif name in repeatable_fields(kind):
        given.setdefault(name, []).append(value)
    elif name in given:
        raise InvalidRequest(f"{name}: given more than once")
    else:
        given[name] = value


def nested_structs(kind: type[msgspec.Struct]) -> Mapping[str, type[msgspec.Struct]]:
    """Return the fields of a struct that are structs themselves, by name."""
    return {
        field.encode_name: candidate
        for field in msgspec.structs.fields(kind)
        for candidate in getattr(field.type, "__args__", (field.type,))
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct)
    }


def repeatable_fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Return the fields of a struct that hold several values."""
    return frozenset(
        field.encode_name for field in msgspec.structs.fields(kind) if field.default == ()
    )
