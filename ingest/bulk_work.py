"""The work on one video of a bulk ingest: a function of a file and settings, and of nothing else.

It reads the file, asks Triton, and returns what was found; it knows neither catalogue nor index,
so any engine may run it in any process on any machine that sees the file and the Triton.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import (
    DeadlineExceeded,
    InvalidRequest,
    MediaLimitExceeded,
    MediaRefused,
    ModelFailed,
    Overloaded,
    PixserveError,
    TooLarge,
    Unavailable,
)
from gateway.settings import Settings
from gateway.triton import Triton
from ingest.pipeline import Analysis, AnalysisRequest, analyse


@dataclass(frozen=True)
class Work:
    """One video, as it travels to where the work is done."""

    path: Path
    request: AnalysisRequest
    settings: Settings


@dataclass(frozen=True)
class Failure:
    """An error as it travels back: errors of several arguments do not survive pickling."""

    kind: str
    message: str
    reason: str  # of a refusal
    part: str  # that is not available


@dataclass(frozen=True)
class Outcome:
    """What came of one video: one of the two."""

    analysis: Analysis | None
    failure: Failure | None


def analysed(work: Work) -> Outcome:
    """Analyse a video, from its file to the rows of its segments; never raises what is expected."""
    try:
        return Outcome(asyncio.run(_analysed(work)), None)
    except PixserveError as error:
        reason = getattr(error, "reason", "")
        part = getattr(error, "part", "")
        return Outcome(None, Failure(type(error).__name__, error.message, reason, part))


async def _analysed(work: Work) -> Analysis:
    triton = Triton(work.settings.triton, work.request.bundle)
    try:
        return await analyse(work.path, work.request, work.settings, triton, lambda *_: None)
    finally:
        await triton.close()


def analysis_of(outcome: Outcome) -> Analysis:
    """Return what was found, or raise here what was raised there."""
    if outcome.analysis is not None:
        return outcome.analysis
    assert outcome.failure is not None
    raise _error(outcome.failure)


def _error(failure: Failure) -> PixserveError:
    refusals = {kind.__name__: kind for kind in (MediaRefused, MediaLimitExceeded)}
    absences = {kind.__name__: kind for kind in (Unavailable, DeadlineExceeded, ModelFailed)}
    others = {kind.__name__: kind for kind in (InvalidRequest, Overloaded, TooLarge)}
    if failure.kind in refusals:
        return refusals[failure.kind](failure.reason, failure.message)
    if failure.kind in absences or failure.part:
        return absences.get(failure.kind, Unavailable)(failure.part, failure.message)
    return others.get(failure.kind, PixserveError)(failure.message)
