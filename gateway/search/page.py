"""What a search reads of the catalogue, and its clock."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from gateway.catalogue.bounds import ANY, Bounds
from gateway.catalogue.catalogue import Catalogue, SegmentFacts, VideoFacts
from gateway.doors import Doors
from gateway.errors import DeadlineExceeded
from gateway.schemas import StageTimes
from gateway.search.filters import MAX_FILTER_VIDEOS
from gateway.search.group import Entry

READ_TIMEOUT_S = 1.0  # of one read; without the catalogue there is no answer at all
READ_GRACE_S = 0.1  # a read may take so much longer than the deadline: the rest is done by then

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

    def __init__(self, doors: Doors, clock: Clock, deadline_s: float) -> None:
        self._doors = doors
        self._clock = clock
        self._deadline_s = deadline_s

    async def videos_within(self, bounds: Bounds) -> tuple[str, ...] | None:
        """Return the videos within bounds, or None where there are no bounds or many such videos.

        Where they are many, the candidates are looked through instead (`only_within`).
        """
        if bounds == ANY:
            return None
        catalogue = self._doors.catalogue
        videos = await self._call(catalogue.videos_within, bounds, MAX_FILTER_VIDEOS + 1)
        return videos if len(videos) <= MAX_FILTER_VIDEOS else None

    async def pix_of(self, video_ids: Collection[str], bounds: Bounds) -> dict[str, int]:
        """Return the PIX now of those videos that are searchable and within bounds."""
        if not video_ids:
            return {}
        return await self._call(self._doors.catalogue.pix_of, video_ids, bounds)

    async def segments(self, segment_ids: Collection[str]) -> dict[str, SegmentFacts]:
        """Return the facts of those segments that the catalogue has."""
        return await self._call(self._doors.catalogue.segments, segment_ids)

    async def created_at(self, video_ids: Collection[str]) -> dict[str, str]:
        """Return when those of the videos that the catalogue has were uploaded, RFC 3339."""
        videos = await self._call(self._doors.catalogue.videos, video_ids)
        return {video_id: video.created_at for video_id, video in videos.items()}

    async def facts_of(self, page: Sequence[Entry]) -> Facts:
        """Return what the page tells of its segments and videos."""
        if not page:
            return Facts({}, {})
        return await self._call(_read_facts, self._doors.catalogue, page)

    async def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(self._left_s()):
                return await self._doors.threads.call(function, *args, **kwargs)
        except TimeoutError as error:
            raise DeadlineExceeded("catalogue", "the catalogue did not answer in time") from error
        finally:
            self._clock.catalogue_s += time.perf_counter() - start

    def _left_s(self) -> float:
        left_s = max(0.0, self._deadline_s - self._clock.elapsed_s())
        return min(READ_TIMEOUT_S, left_s + READ_GRACE_S)


def _read_facts(catalogue: Catalogue, page: Sequence[Entry]) -> Facts:
    segments = (segment.segment_id for entry in page for segment in entry.segments)
    return Facts(
        catalogue.segments(set(segments)), catalogue.videos({entry.video_id for entry in page})
    )
