"""The ways in which the catalogue writes a time."""

import time
from datetime import UTC, datetime


def now_s() -> float:
    """Return the seconds since the epoch: what leases are computed with."""
    return time.time()


def timestamp() -> str:
    """Return the time as RFC 3339 text in UTC, of one width, so that it sorts as text."""
    return text_of(now_s())


def text_of(at_s: float) -> str:
    """Return a time in seconds since the epoch as such text."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def text_at(at: datetime) -> str:
    """Return a time with an offset as such text; raises `OverflowError` beyond the calendar."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
