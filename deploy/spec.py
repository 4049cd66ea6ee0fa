"""What the supervisor is told: the parts, how each is started and checked, and its times."""

from collections.abc import Callable
from dataclasses import dataclass

from deploy.checks import Check
from deploy.process import Launch
from deploy.state import StackState

Observer = Callable[[StackState], None]
Explanation = Callable[[str], str]  # what a part has logged since its start → the line that matters


def last_line(text: str) -> str:
    """Return the last line that is not empty; a Python program's error stands there."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


@dataclass(frozen=True)
class Part:
    """One part of the stack; without `launch` it runs elsewhere and is only checked."""

    name: str
    address: str
    check: Check
    launch: Launch | None = None
    after: tuple[str, ...] = ()  # names of the parts that must be ready before it starts
    explain: Explanation = last_line
    metrics: str = ""
    start_s: float = 90.0  # until it must be ready
    stop_s: float = 8.0  # between SIGTERM and SIGKILL
    whole: bool = False  # it is restarted when a process ends that it started, not only itself


@dataclass(frozen=True)
class Limits:
    """The supervisor's times, in seconds."""

    first_backoff_s: float = 1.0
    last_backoff_s: float = 30.0
    stable_s: float = 60.0  # a part that ran this long starts again at the first back-off
    recheck_s: float = 5.0  # between checks of parts that run elsewhere
    ready_s: float = 120.0  # until all parts must be ready for the first time


DEFAULT_LIMITS = Limits()


def backoff_s(failures: int, limits: Limits) -> float:
    """Return the wait before restart number `failures` (0 is the first): it doubles to a limit."""
    doubled = limits.first_backoff_s * 2.0 ** min(failures, 62)
    return min(doubled, limits.last_backoff_s)
