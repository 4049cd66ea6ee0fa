"""Multipart bodies read as they arrive: no part is held whole unless its field says so."""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from gateway.errors import InvalidRequest, TooLarge

MAX_FIELDS = 8  # parts in one body
MAX_HEADER_BYTES = 4_096  # one header line of a part
MAX_HEADERS = 8  # header lines of a part


class Field(Protocol):
    """Where the bytes of one named part go."""

    async def begin(self, filename: str | None) -> None:
        """Take the name that the client gave its file; it is not to be trusted."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes; raises `TooLarge` beyond the field's limit."""

    async def end(self) -> None:
        """Learn that the part is complete."""


class MemoryField:
    """A small part, kept in memory.

    Args:
        name: the field's name, for messages.
        limit_bytes: what it may hold.
    """

    def __init__(self, name: str, limit_bytes: int) -> None:
        self._name = name
        self._limit_bytes = limit_bytes
        self._data = bytearray()
        self.filename = ""
        self.given = False

    @property
    def data(self) -> bytes:
        """What came; empty where the part was not there."""
        return bytes(self._data)

    async def begin(self, filename: str | None) -> None:
        """Take the file's name."""
        self.given = True
        self.filename = filename or ""

    async def write(self, data: bytes) -> None:
        """Take the next bytes."""
        if len(self._data) + len(data) > self._limit_bytes:
            raise TooLarge(f"{self._name}: over its limit of {self._limit_bytes:,} bytes")
        self._data += data

    async def end(self) -> None:
        """A part in memory needs no closing."""


def is_multipart(content_type: str) -> bool:
    """Tell whether a Content-Type header announces a form of several parts."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


async def read_form(
    chunks: AsyncIterator[bytes], content_type: str, fields: Mapping[str, Field], limit_bytes: int
) -> None:
    """Feed each part of a multipart body to its field, as it arrives.

    Args:
        chunks: the body.
        content_type: the request's header, with the boundary.
        fields: by name; a part of another name, or the same one twice, is refused.
        limit_bytes: what the whole body may have.

    Raises:
        InvalidRequest: this is no multipart form, or not a complete one, or not of these fields.
        TooLarge: a field or the body is over its limit.
    """
    read_bytes = 0
    try:
        parser = _parser(content_type)
        reader = _Reader(fields)
        async for chunk in chunks:
            read_bytes += len(chunk)
            if read_bytes > limit_bytes:
                raise TooLarge(f"the body is over its limit of {limit_bytes:,} bytes")
            if chunk:
                for event in parser.parse(chunk):
                    await reader.take(event)
        parser.close()
    except MultipartError as error:
        problem = error.args[0] if error.args else "it is malformed"  # without its own cause
        raise InvalidRequest(f"the body is not a complete multipart form: {problem}") from error


def _parser(content_type: str) -> PushMultipartParser:
    _, options = parse_options_header(content_type)
    if not is_multipart(content_type) or not options.get("boundary"):
        raise InvalidRequest(
            "Content-Type: expected multipart/form-data with a boundary, "
            f"got {content_type[:100] or 'none'}"
        )
    return PushMultipartParser(
        options["boundary"],
        max_segment_count=MAX_FIELDS,
        max_header_size=MAX_HEADER_BYTES,
        max_header_count=MAX_HEADERS,
    )


class _Reader:
    """Passes the parser's events on to the fields."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = dict(fields)
        self._known = ", ".join(fields)
        self._current: Field | None = None

    async def take(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        if isinstance(event, MultipartSegment):
            self._current = self._field(event.name)
            await self._current.begin(event.filename)
        elif self._current is not None and event is not None:
            await self._current.write(bytes(event))
        elif self._current is not None:
            await self._current.end()

    def _field(self, name: str) -> Field:
        try:
            return self._fields.pop(name)
        except KeyError:
            raise InvalidRequest(
                f"{name[:100]!r}: unknown or repeated part of the form; known: {self._known}"
            ) from None
