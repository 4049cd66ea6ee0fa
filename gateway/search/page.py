"""What a search reads of the catalogue, and the page of hits made of it."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from gateway.catalogue.catalogue import Catalogue, SegmentFacts, VideoFacts
from gateway.doors import Doors
from gateway.errors import DeadlineExceeded
from gateway.schemas import Hit, Moment, StageTimes
from gateway.search.filters import MAX_FILTER_VIDEOS
from gateway.search.group import Entry
from gateway.search.rerank import Scored

READ_TIMEOUT_S = 1.0  # of one read; without the catalogue there is no answer at all

P = ParamSpec("P")
T = TypeVar("T")


class Clock:
    """Runs from the start of a search."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.catalogue_s = 0.0  # spent waiting for the catalogue so far

    def elapsed_s(self) -> float:
        """Return the time since the start."""
        return time.perf_counter() - self._start

    def times(self, embed_s: float, legs_s: float) -> StageTimes:
        """Return the stages' times until now; the gateway's is what no other part took."""
        total_s = self.elapsed_s()
        gateway_s = max(0.0, total_s - embed_s - legs_s - self.catalogue_s)
        return StageTimes(
            total=total_s * 1_000,
            embed=embed_s * 1_000,
            legs=legs_s * 1_000,
            catalogue=self.catalogue_s * 1_000,
            gateway=gateway_s * 1_000,
        )


@dataclass(frozen=True)
class Facts:
    """What a page tells of its segments and videos, by their ids."""

    segments: Mapping[str, SegmentFacts]
    videos: Mapping[str, VideoFacts]


class Reader:
    """Reads the catalogue for one search; each read raises `DeadlineExceeded` when it is late."""

    def __init__(self, doors: Doors, clock: Clock) -> None:
        self._doors = doors
        self._clock = clock

    async def videos_with_pix(self, min_pix: int | None) -> tuple[str, ...] | None:
        """Return the videos with so much PIX, or None where that is no filter or they are many.

        Where they are many, most candidates are among them, and `pix_of` drops the others.
        """
        if not min_pix:
            return None
        catalogue = self._doors.catalogue
        videos = await self._call(catalogue.videos_with_pix, min_pix, MAX_FILTER_VIDEOS + 1)
        return videos if len(videos) <= MAX_FILTER_VIDEOS else None

    async def pix_of(self, video_ids: Collection[str], min_pix: int | None) -> dict[str, int]:
        """Return the PIX now of those videos that are searchable and have at least `min_pix`."""
        pix = await self._call(self._doors.catalogue.pix_of, video_ids) if video_ids else {}
        return {video_id: owned for video_id, owned in pix.items() if owned >= (min_pix or 0)}

    async def facts_of(self, page: Sequence[Entry]) -> Facts:
        """Return what the page tells of its segments and videos."""
        if not page:
            return Facts({}, {})
        return await self._call(_read_facts, self._doors.catalogue, page)

    async def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._doors.threads.call(function, *args, **kwargs)
        except TimeoutError as error:
            raise DeadlineExceeded("catalogue", "the catalogue did not answer in time") from error
        finally:
            self._clock.catalogue_s += time.perf_counter() - start


def _read_facts(catalogue: Catalogue, page: Sequence[Entry]) -> Facts:
    moments = (moment.segment_id for entry in page for moment in entry.moments)
    return Facts(
        catalogue.segments(set(moments)), catalogue.videos({entry.video_id for entry in page})
    )


def hits_of(page: Iterable[Entry], facts: Facts) -> Iterator[Hit]:
    """Yield the hits of a page; what the catalogue no longer has is left out."""
    for entry in page:
        video = facts.videos.get(entry.video_id)
        moments = tuple(
            _moment(scored, facts.segments[scored.segment_id])
            for scored in entry.moments
            if scored.segment_id in facts.segments
        )
        if video and moments:
            yield Hit(
                video_id=video.video_id,
                title=video.title,
                creator_id=video.creator_id,
                category=video.category,
                score=moments[0].score,
                start_s=moments[0].start_s,
                end_s=moments[0].end_s,
                moments=moments,
            )


def _moment(scored: Scored, segment: SegmentFacts) -> Moment:
    return Moment(
        segment_id=scored.segment_id,
        start_s=segment.start_s,
        end_s=segment.end_s,
        score=scored.score,
        text=segment.text,
        parts=scored.parts,
    )
