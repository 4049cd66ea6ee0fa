"""Waiting for something to come true, for as long as a busy machine may need."""

import time
from collections.abc import Callable

TIMEOUT_S = 60.0
POLL_S = 0.02


def until(condition: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
    """Wait until a condition holds."""
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s, f"did not come true in {timeout_s:g} s"
        time.sleep(POLL_S)
