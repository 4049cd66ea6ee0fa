"""Cursors: the place after a page, so that the next one goes on there. Pure.

A cursor names the index and the query that it belongs to, and is refused with any other. It gives
no right to anything: who makes one up turns the pages of a search that they may ask anyway.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.errors import CursorRefused
from gateway.schemas import MEDIA, SearchRequest
from gateway.search.group import Entry

CHECK_BYTES = 6  # of a digest over the cursor: a cut or changed one is told from an old one
QUERY_BYTES = 12  # of a digest over the query
MAX_OFFSET = 100_000


class Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page ended."""

    index_version: Annotated[str, Meta(max_length=128)]
    query: Annotated[bytes, Meta(max_length=QUERY_BYTES)]  # its digest
    after: Annotated[str, Meta(max_length=96)]  # the best segment of the last entry
    offset: Annotated[int, Meta(ge=1, le=MAX_OFFSET)]  # entries before, should that one be gone


@dataclass(frozen=True)
class Page:
    """The entries of one page."""

    entries: tuple[Entry, ...]
    next: str | None  # the cursor of the page after it


def turn(entries: Sequence[Entry], request: SearchRequest, index_version: str) -> Page:
    """Return the page that a request asks for.

    It goes on after the entry that the page before ended with; where that one is gone, after as
    many entries as were shown. So a page repeats none of the page before, whatever was added.

    Args:
        entries: all of them, in their order.
        request: with the cursor, or without: then it is the first page.
        index_version: of the index that was searched.

    Raises:
        CursorRefused: the cursor is of another query or index, or is none.
    """
    place = check_cursor(request, index_version)
    start = 0 if place is None else _start(entries, place)
    end = start + request.limit
    page = tuple(entries[start:end])
    if end >= len(entries):
        return Page(page, None)
    after = Place(index_version, query_digest(request), page[-1].best.segment_id, end)
    return Page(page, _encode(after))


def check_cursor(request: SearchRequest, index_version: str) -> Place | None:
    """Return the place that a request's cursor names, None where it has no cursor.

    Raises:
        CursorRefused: it is of another query or index, or is none.
    """
    if request.cursor is None:
        return None
    place = _decode(request.cursor)
    if place.index_version != index_version:
        raise CursorRefused(
            f"the cursor is of the index {place.index_version}, searches use {index_version} now: "
            "search again without a cursor"
        )
    if place.query != query_digest(request):
        raise CursorRefused(
            "the cursor is of another query: send the same query with it, only limit and "
            "deadline_ms may differ, or search again without a cursor"
        )
    return place


def query_digest(request: SearchRequest) -> bytes:
    """Return a digest of all that decides what a search finds and in which order."""
    plain = msgspec.structs.replace(
        request, limit=1, cursor=None, deadline_ms=None, show_cut=False, **dict.fromkeys(MEDIA)
    )
    digest = hashlib.blake2b(msgspec.json.encode(plain), digest_size=QUERY_BYTES)
    for name in MEDIA:
        media: bytes = getattr(request, name) or b""
        digest.update(hashlib.blake2b(media, digest_size=QUERY_BYTES).digest())
    return digest.digest()


def _start(entries: Sequence[Entry], place: Place) -> int:
    for number, entry in enumerate(entries, 1):
        if entry.best.segment_id == place.after:
            return number
    return place.offset


def _encode(place: Place) -> str:
    body = msgspec.msgpack.encode(place)
    return base64.urlsafe_b64encode(_check(body) + body).decode().rstrip("=")


def _decode(cursor: str) -> Place:
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        check, body = data[:CHECK_BYTES], data[CHECK_BYTES:]
        if check != _check(body):
            raise ValueError("it was changed")
        return msgspec.msgpack.decode(body, type=Place)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise CursorRefused(
            "cursor: this is not the `next` of a page of hits: pass it on as it came, or search "
            "again without one"
        ) from error


def _check(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=CHECK_BYTES, person=b"pixserve cursor").digest()
