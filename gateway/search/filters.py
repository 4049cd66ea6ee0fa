"""Typed filters to Milvus' filter expressions. Every string goes through `quoted`, and only there.

Templates would keep values out of the grammar altogether, but neither the embedded engine nor
Milvus before 2.5 knows them.
"""

import re
from collections.abc import Collection

from gateway.errors import InvalidRequest
from gateway.schemas import Filters

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


def one_of(field: str, values: Collection[str]) -> str:
    """Return the expression for any of the values, of which there is at least one."""
    return f"{field} in [{', '.join(map(quoted, values))}]"


def expression(filters: Filters, rich_videos: Collection[str] | None = None) -> str:
    """Return the expression that the segments of a search must meet; "": anything.

    Args:
        filters: what the client asked for.
        rich_videos: the videos with `filters.min_pix`, where they are few enough to be named.

    Raises:
        InvalidRequest: a value that no expression can hold, or a duration range that is empty.
    """
    if (
        filters.min_duration_s is not None
        and filters.max_duration_s is not None
        and filters.min_duration_s > filters.max_duration_s
    ):
        raise InvalidRequest(
            f"min_duration_s {filters.min_duration_s:g} is over "
            f"max_duration_s {filters.max_duration_s:g}: swap them"
        )
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
    if rich_videos is not None:
        terms.append(one_of("video_id", rich_videos or ("",)))  # no video has the id ""
    return " and ".join(terms)


def _seconds(value: float) -> str:
    """Return seconds as a decimal literal without an exponent; NaN is refused."""
    if not value >= 0:
        raise InvalidRequest(f"a duration is a number of seconds from 0 on, got {value}")
    return f"{min(value, MAX_SECONDS):.9f}"
