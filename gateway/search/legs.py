"""The legs of a search, all of them run at once under a deadline.

The keyword leg needs no embedding and starts at once; a vector leg starts when its vectors are
there. A leg that is late or whose part is down is left out and named, it never holds up the others.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ensembles.arrays import FloatArray
from ensembles.bundle import Band, Bundle
from gateway.doors import Doors
from gateway.errors import (
    ConfigurationError,
    DeadlineExceeded,
    MediaRefused,
    ModelFailed,
    NotFound,
    Overloaded,
    Unavailable,
    Unsupported,
)
from gateway.index.calls import CollectionMissing
from gateway.index.rows import Candidate
from gateway.schemas import MAX_DEADLINE_MS, LegName
from gateway.search.calibrate import Judged
from gateway.search.embed import QueryVectors
from gateway.search.mix import Part, band_of, judge, mix
from gateway.search.plan import INPUT_OF, Aim, Plan
from gateway.search.query import Query

NoAnswer = Unavailable | Overloaded  # what costs a search one leg, not its answer


@dataclass(frozen=True)
class Hits:
    """What one leg found, and what its scores mean."""

    candidates: tuple[Candidate, ...]
    band: Band
    judged: Mapping[str, Judged] = field(default_factory=dict)  # by segment, of several inputs


@dataclass(frozen=True)
class NothingToSearchWith:
    """A clip, or a segment that others are to be like, has nothing in this leg: it is silent."""


@dataclass(frozen=True)
class Found:
    """What the legs that answered found."""

    candidates: Mapping[LegName, tuple[Candidate, ...]]
    degraded: tuple[str, ...]  # the legs that did not answer, and why
    embed_s: float  # how long the search waited for Triton
    legs_s: float  # how long it waited for Milvus after that
    bands: Mapping[str, Band] = field(default_factory=dict)  # of the scores of each leg
    judged: Mapping[str, Mapping[str, Judged]] = field(default_factory=dict)  # by leg and segment
    sentence: FloatArray | None = None  # the words' embedding; None: not asked for, or not there


async def run_legs(
    plan: Plan, query: Query, doors: Doors, expression: str, *, k: int, timeout_s: float
) -> Found:
    """Run all legs of a plan at once.

    Args:
        plan: the legs, as `plan_legs` gives them.
        query: what is asked for.
        doors: the way to Triton and Milvus.
        expression: what the segments must be; see `gateway.filters`.
        k: candidates of each leg.
        timeout_s: after this, the legs that have not answered are left out.

    Raises:
        DeadlineExceeded: no leg answered in time; the message names the search's deadline.
        Unavailable, Overloaded: no leg answered; it is the error of the part at fault.
        InvalidRequest, MediaRefused: Triton or Milvus refuses the query, or the clip has nothing
            that a leg searches with (`no_streams`).
        NotFound: the index does not have the segment that others are to be like.
        ConfigurationError: the bundle's words are to find sounds, but their vectors differ in size.
    """
    _check_shared_space(plan, doors.bundle)
    start = time.perf_counter()
    vectors = QueryVectors(query, plan, doors, timeout_s)
    search = _Search(query, vectors, doors, expression, k, time.monotonic() + timeout_s)
    tasks = [asyncio.create_task(search.outcome(leg, aim)) for leg, aim in plan.items()]
    try:
        outcomes = dict(zip(plan, await asyncio.gather(*tasks), strict=True))
    finally:
        for task in tasks:
            task.cancel()
        await vectors.end()
    hits = {leg: out for leg, out in outcomes.items() if isinstance(out, Hits)}
    errors = {leg: out for leg, out in outcomes.items() if isinstance(out, NoAnswer)}
    if not hits:
        raise _no_leg(errors, query, plan)
    embed_s = vectors.ready_at - start
    return Found(
        candidates={leg: found.candidates for leg, found in hits.items()},
        degraded=tuple(f"{leg}: {_reason(error)}" for leg, error in errors.items()),
        embed_s=embed_s,
        legs_s=time.perf_counter() - start - embed_s,
        bands={leg: found.band for leg, found in hits.items()},
        judged={leg: found.judged for leg, found in hits.items()},
        sentence=vectors.sentence(),
    )


@dataclass(frozen=True)
class _Search:
    """What the legs of one search share."""

    query: Query
    vectors: QueryVectors
    doors: Doors
    expression: str
    k: int
    until: float  # on `time.monotonic()`'s clock

    async def outcome(self, leg: LegName, aim: Aim) -> Hits | NothingToSearchWith | NoAnswer:
        """Return what a leg finds, or why it found nothing."""
        part = "triton" if set(aim.sources) - {"like"} else "milvus"
        try:
            async with asyncio.timeout(self._left_s()):
                if not aim.sources:
                    return await self._by_words()
                parts = await self._parts(leg, aim)
                if not parts:
                    return NothingToSearchWith()
                away = await self._away(leg, aim)
                part = "milvus"
                return await self._by_vector(leg, parts, away)
        except TimeoutError:
            return DeadlineExceeded(part, f"{part} did not answer in time")
        except (Unavailable, Overloaded) as error:
            return error

    async def _by_words(self) -> Hits:
        found = await self.doors.milvus.search_keyword(
            self.doors.bundle,
            self.query.text,
            k=self.k,
            expression=self.expression,
            timeout_s=self._left_s(),
        )
        return Hits(found, band_of("keyword", None, self.doors.bundle.calibration))

    async def _by_vector(self, leg: LegName, parts: Sequence[Part], away: Sequence[Part]) -> Hits:
        vector, band = mix(parts, away)
        found = await self.doors.milvus.search_vector(
            self.doors.bundle,
            leg,
            vector,
            k=self.k,
            expression=self.expression,
            timeout_s=self._left_s(),
        )
        if len(parts) == 1 or not found:
            return Hits(found, band)
        stored = await self.doors.milvus.stored.vectors(
            self.doors.bundle, leg, [one.segment_id for one in found], timeout_s=self._left_s()
        )
        return Hits(found, band, judge(parts, away, stored))

    async def _parts(self, leg: LegName, aim: Aim) -> list[Part]:
        calibration = self.doors.bundle.calibration
        return [
            Part(
                vector,
                band_of(leg, source, calibration),
                getattr(self.query.input_weights, INPUT_OF[source]),
            )
            for source in aim.sources
            for vector in await self.vectors.of(leg, source)
        ]

    async def _away(self, leg: LegName, aim: Aim) -> list[Part]:
        if aim.away is None:
            return []
        band = band_of(leg, aim.away, self.doors.bundle.calibration)
        return [Part(await self.vectors.away(aim.away), band)]

    def _left_s(self) -> float:
        return self.until - time.monotonic()


def _check_shared_space(plan: Plan, bundle: Bundle) -> None:
    sound = plan.get("sound")
    shared = sound is not None and "clip" in (*sound.sources, sound.away)
    if shared and bundle.dims.audio != bundle.dims.vision:
        raise ConfigurationError(
            f"{bundle.id} says that words find sounds, but its sound embeddings have "
            f"{bundle.dims.audio} numbers and those of words {bundle.dims.vision}: export it again"
        )


def _reason(error: NoAnswer) -> str:
    match error:
        case DeadlineExceeded():
            return "late"
        case Unsupported() | ModelFailed() | CollectionMissing():
            return error.message
        case Unavailable():
            return f"{error.part} unavailable"
        case _:
            return "overloaded"


def _passes(error: NoAnswer) -> int:
    """Rank an error by what is behind it: another try may meet it, will not, or always will."""
    match error:
        case Unsupported():
            return 2
        case DeadlineExceeded():
            return 1
        case _:
            return 0


def _no_leg(
    errors: Mapping[LegName, NoAnswer], query: Query, plan: Plan
) -> NoAnswer | NotFound | MediaRefused:
    """Return the error that says most: a part that is down, one that is slow, one that cannot."""
    if not errors and query.clip:
        message = f"the clip has nothing to search the legs {', '.join(plan)} with: weigh others"
        return MediaRefused("no_streams", message)
    if not errors:
        return NotFound(f"like: the index has no segment {query.like}")
    worst = min(errors.values(), key=_passes)
    if not isinstance(worst, DeadlineExceeded):
        return worst
    return DeadlineExceeded(
        worst.part,
        f"none of the legs {', '.join(errors)} answered within the deadline of "
        f"{query.deadline_s * 1_000:.0f} ms: give a longer deadline_ms, {MAX_DEADLINE_MS} at most, "
        "or leave it out",
    )
