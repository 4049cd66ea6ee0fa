"""Typed filters to Milvus' filter expressions. Every string goes through `quoted`, and only there.

Templates would keep values out of the grammar altogether, but neither the embedded engine nor
Milvus before 2.5 knows them.
"""

import re
from collections.abc import Collection
from datetime import datetime

from gateway.catalogue.bounds import Bounds
from gateway.catalogue.clock import text_at
from gateway.errors import InvalidRequest
from gateway.schemas import Filters
from gateway.search.query import Query

MAX_FILTER_VIDEOS = 1_000  # ids in one expression; the embedded engine takes 3 ms for so many
MAX_SECONDS = 1e9  # of a duration in an expression; no video is longer

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # not in the grammar's strings, whatever is escaped
SPECIAL = re.compile(r'["\\]')


def quoted(value: str) -> str:
    """Return a string as a literal of Milvus' filter grammar.

    Raises:
        InvalidRequest: it has control characters, or half of a surrogate pair.
    """
    if CONTROL.search(value):
        raise InvalidRequest(f"a filter's value has control characters: {value!r}")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidRequest(f"a filter's value is not valid Unicode: {value!r}")
    return '"' + SPECIAL.sub(r"\\\g<0>", value) + '"'


def equals(field: str, value: str) -> str:
    """Return the expression for one value of a field."""
    return f"{field} == {quoted(value)}"


def differs(field: str, value: str) -> str:
    """Return the expression for all but one value of a field."""
    return f"{field} != {quoted(value)}"


def one_of(field: str, values: Collection[str]) -> str:
    """Return the expression for any of the values, of which there is at least one."""
    return f"{field} in [{', '.join(map(quoted, values))}]"


def expression(
    filters: Filters, videos: Collection[str] | None = None, besides: Collection[str] = ()
) -> str:
    """Return the expression that the segments of a search must meet; "": anything.

    Args:
        filters: what the client asked for.
        videos: those within the bounds of `bounds_of`, where they are few enough to be named.
        besides: further expressions that must hold.

    Raises:
        InvalidRequest: a value that no expression can hold, or a range that is empty.
    """
    _check_durations(filters)
    terms = [
        one_of(field, getattr(filters, field))
        for field in ("category", "creator_id", "language", "video_id")
        if getattr(filters, field)
    ]
    if filters.tags:
        terms.append(f"ARRAY_CONTAINS_ALL(tags, [{', '.join(map(quoted, filters.tags))}])")
    if filters.min_duration_s is not None:
        terms.append(f"duration_s >= {_seconds(filters.min_duration_s)}")
    if filters.max_duration_s is not None:
        terms.append(f"duration_s <= {_seconds(filters.max_duration_s)}")
    if videos is not None:
        terms.append(one_of("video_id", videos or ("",)))  # no video has the id ""
    return " and ".join([*terms, *besides])


def but_like(query: Query, filters: Filters) -> tuple[str, ...]:
    """Return what must hold of a hit of "more like this": it is not the same again.

    Raises:
        InvalidRequest: the filters ask for the only video that is left out.
    """
    if not query.like:
        return ()
    if query.own_video:
        return (differs("segment_id", query.like),)
    if set(filters.video_id) == {query.like_video}:
        raise InvalidRequest(
            f"filters.video_id asks for {query.like_video} alone, which own_video leaves out: "
            "drop one of them"
        )
    return (differs("video_id", query.like_video),)


def bounds_of(filters: Filters) -> Bounds:
    """Return the bounds that only the catalogue can check.

    Raises:
        InvalidRequest: no time is in the range.
    """
    after, before = _utc(filters.created_after), _utc(filters.created_before)
    if after and before and after >= before:
        raise InvalidRequest(
            f"created_after {after} is not before created_before {before}: swap them"
        )
    return Bounds(min_pix=filters.min_pix or 0, created_from=after, created_until=before)


def _utc(at: datetime | None) -> str:
    """Return a time as the catalogue writes it; "" for none."""
    if at is None:
        return ""
    try:
        return text_at(at)
    except OverflowError as error:
        raise InvalidRequest(f"a filter's time is out of range: {at.isoformat()}") from error


def _check_durations(filters: Filters) -> None:
    low, high = filters.min_duration_s, filters.max_duration_s
    if low is not None and high is not None and low > high:
        raise InvalidRequest(f"min_duration_s {low:g} is over max_duration_s {high:g}: swap them")


def _seconds(value: float) -> str:
    """Return seconds as a decimal literal without an exponent; NaN is refused."""
    if not value >= 0:
        raise InvalidRequest(f"a duration is a number of seconds from 0 on, got {value}")
    return f"{min(value, MAX_SECONDS):.9f}"
