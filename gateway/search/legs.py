"""The legs of a search: which of them a query has, and all of them run at once under a deadline.

The keyword leg needs no embedding and starts at once; a vector leg starts when its embedding is
there. A leg that is late or whose part is down is left out and named, it never holds up the others.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from ensembles.bundle import Bundle, Capabilities
from gateway.doors import Doors
from gateway.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    Unavailable,
    Unsupported,
)
from gateway.index.rows import Candidate
from gateway.schemas import LegName, LegWeights
from gateway.search.embed import QueryVectors, Source
from gateway.search.query import Query

NoAnswer = Unavailable | Overloaded  # what costs a search one leg, not its answer
Plan = Mapping[LegName, Source | Literal["words"]]  # what each leg searches with


@dataclass(frozen=True)
class Found:
    """What the legs that answered found."""

    candidates: Mapping[LegName, tuple[Candidate, ...]]
    degraded: tuple[str, ...]  # the legs that did not answer, and why
    embed_s: float  # how long the search waited for Triton
    legs_s: float  # how long it waited for Milvus after that


def plan_legs(
    query: Query,
    capabilities: Capabilities,
    weights: LegWeights | None = None,
    *,
    sound_text: bool = False,
) -> Plan:
    """Return the legs that can answer a query, each with what it searches with.

    An image says more about pixels than words do: with both, the visual legs search by the image,
    and so a sound about sounds.

    Args:
        query: what is asked for.
        capabilities: what the bundle's embeddings can be compared with.
        weights: explicit weights; a leg without weight is left out.
        sound_text: words that are to find sounds have an encoder of their own; else CLIP's.

    Raises:
        InvalidRequest: no leg with a weight can answer the query.
    """
    legs: dict[LegName, Source | Literal["words"]] = {}
    if query.text:
        legs |= {"keyword": "words", "speech": "sentence"}
    if query.text and capabilities.words_to_pixels:
        legs |= _visual_legs("clip", capabilities)
    if query.text and capabilities.words_to_sounds:
        legs |= {"sound": "sound_text" if sound_text else "clip"}
    if query.image:
        legs |= _visual_legs("image", capabilities)
    if query.audio:
        legs |= {"sound": "sound"}
    if weights is None:
        return legs
    wanted = {leg: source for leg, source in legs.items() if getattr(weights, leg) > 0}
    if not wanted:
        raise InvalidRequest(
            f"the weights leave no leg that can answer: this query has the legs {', '.join(legs)}"
        )
    return wanted


def _visual_legs(source: Source, capabilities: Capabilities) -> dict[LegName, Source]:
    legs: tuple[LegName, ...] = ("visual", "fused") if capabilities.fusion_trained else ("visual",)
    return dict.fromkeys(legs, source)


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
        Unavailable, Overloaded: no leg answered; it is the error of the part at fault.
        InvalidRequest, MediaRefused: Triton or Milvus refuses the query.
        ConfigurationError: the bundle's words are to find sounds, but their vectors differ in size.
    """
    _check_shared_space(plan, doors.bundle)
    start = time.perf_counter()
    sources: set[Source] = {source for source in plan.values() if source != "words"}
    vectors = QueryVectors(query, sources, doors, timeout_s)
    search = _Search(query.text, vectors, doors, expression, k, time.monotonic() + timeout_s)
    tasks = [asyncio.create_task(search.outcome(leg, source)) for leg, source in plan.items()]
    try:
        outcomes = dict(zip(plan, await asyncio.gather(*tasks), strict=True))
    finally:
        for task in tasks:
            task.cancel()
        await vectors.end()
    candidates = {leg: out for leg, out in outcomes.items() if not isinstance(out, NoAnswer)}
    errors = {leg: out for leg, out in outcomes.items() if isinstance(out, NoAnswer)}
    if not candidates:
        raise _worst(errors.values())
    degraded = tuple(f"{leg}: {_reason(error)}" for leg, error in errors.items())
    embed_s = vectors.ready_at - start
    return Found(candidates, degraded, embed_s, time.perf_counter() - start - embed_s)


@dataclass(frozen=True)
class _Search:
    """What the legs of one search share."""

    text: str
    vectors: QueryVectors
    doors: Doors
    expression: str
    k: int
    until: float  # on `time.monotonic()`'s clock

    async def outcome(
        self, leg: LegName, source: Source | Literal["words"]
    ) -> tuple[Candidate, ...] | NoAnswer:
        """Return what a leg finds, or why it found nothing."""
        part = "milvus" if source == "words" else "triton"
        try:
            async with asyncio.timeout(self._left_s()):
                if source == "words":
                    return await self._by_words()
                vector = await self.vectors.vector(source)
                part = "milvus"
                return await self.doors.milvus.search_vector(
                    self.doors.bundle,
                    leg,
                    vector,
                    k=self.k,
                    expression=self.expression,
                    timeout_s=self._left_s(),
                )
        except TimeoutError:
            return DeadlineExceeded(part, f"{part} did not answer in time")
        except (Unavailable, Overloaded) as error:
            return error

    async def _by_words(self) -> tuple[Candidate, ...]:
        return await self.doors.milvus.search_keyword(
            self.doors.bundle,
            self.text,
            k=self.k,
            expression=self.expression,
            timeout_s=self._left_s(),
        )

    def _left_s(self) -> float:
        return self.until - time.monotonic()


def _check_shared_space(plan: Plan, bundle: Bundle) -> None:
    if plan.get("sound") == "clip" and bundle.dims.audio != bundle.dims.vision:
        raise ConfigurationError(
            f"{bundle.id} says that words find sounds, but its sound embeddings have "
            f"{bundle.dims.audio} numbers and those of words {bundle.dims.vision}: export it again"
        )


def _reason(error: NoAnswer) -> str:
    match error:
        case DeadlineExceeded():
            return "late"
        case Unsupported():
            return error.message
        case Unavailable():
            return f"{error.part} unavailable"
        case _:
            return "overloaded"


def _worst(errors: Collection[NoAnswer]) -> NoAnswer:
    """Return the error that says most: a part that is down before one that is slow."""
    return min(errors, key=lambda error: isinstance(error, DeadlineExceeded))
