"""The two ways in which the catalogue writes a time."""

import time
from datetime import UTC, datetime


def now_s() -> float:
    """Return the seconds since the epoch: what leases are computed with."""
    return time.time()


def timestamp() -> str:
    """Return the time as RFC 3339 text in UTC, of one width, so that it sorts as text."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
