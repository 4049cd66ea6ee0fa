"""Pure: `Range` requests of HTTP (RFC 9110, section 14), of one range of bytes."""

import re
from dataclasses import dataclass

ONE_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Span:
    """Bytes of a file: the first one, and the one after the last."""

    begin: int
    end: int

    @property
    def size(self) -> int:
        """How many."""
        return self.end - self.begin


class RangeNotSatisfiable(Exception):  # noqa: N818 (names what happened, as HTTP does)
    """A range of which the file has no byte: 416."""

    def __init__(self, size: int) -> None:
        super().__init__(f"Range: the file has {size} bytes, and none of those asked for")
        self.size = size


def wanted_span(header: str | None, size: int) -> Span | None:
    """Return which bytes a `Range` header asks for; None where all of the file is to be sent.

    As RFC 9110 allows, a header that is malformed, of another unit or of several ranges is
    ignored: such a client gets the whole file.

    Args:
        header: its value, None where there is none.
        size: of the file, in bytes.

    Raises:
        RangeNotSatisfiable: the file ends before the range begins.
    """
    told = ONE_RANGE.fullmatch(header or "")
    if told is None:
        return None
    first, last = told[1], told[2]
    if not first and not last:
        return None
    if not first:  # the last so many bytes
        if int(last) == 0 or size == 0:
            raise RangeNotSatisfiable(size)
        return Span(max(0, size - int(last)), size)
    begin = int(first)
    if last and int(last) < begin:
        return None
    if begin >= size:
        raise RangeNotSatisfiable(size)
    return Span(begin, min(size, int(last) + 1) if last else size)


def is_unchanged(etag: str, if_none_match: str | None) -> bool:
    """Say whether a client has this version already, by its `If-None-Match` header."""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or "*" in tags
