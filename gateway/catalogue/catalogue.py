"""The door to the catalogue: what a search reads of it, and its parts for everything else.

Functions are synchronous, each one short transaction; async code calls them through
`gateway.threads`. `library` holds the videos, `ledger` their PIX, `analyses` what was found in
them, `jobs` the work that is due, `control` what is asked of it from outside, `versions` which
index searches use.
"""

from collections.abc import Collection
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import Row, Select, select
from sqlalchemy.sql.elements import ColumnElement

from gateway.catalogue import tables
from gateway.catalogue.analyses import Analyses
from gateway.catalogue.bounds import ANY, Bounds
from gateway.catalogue.database import Database, id_batches
from gateway.catalogue.job_control import JobControl
from gateway.catalogue.job_queue import JobQueue
from gateway.catalogue.ledger import Ledger
from gateway.catalogue.library import Library
from gateway.catalogue.versions import Versions

_Cells: TypeAlias = tuple[Any, ...]

_videos = tables.videos.c
_segments = tables.segments.c


class SegmentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a page of results tells of a segment."""

    segment_id: str
    video_id: str
    start_s: float
    end_s: float
    text: str  # its transcript, "" where there is none
    scene_index: int
    index: int  # within the video


class VideoFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a page of results tells of a video."""

    video_id: str
    title: str
    creator_id: str
    category: str | None
    created_at: str  # RFC 3339, UTC
    duration_s: float
    has_pictures: bool


class Catalogue:
    """Videos, their PIX, what was found in them, and the work that is due.

    Args:
        url: a SQLAlchemy URL; see `gateway.database.Database`.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.library = Library(self._database)
        self.ledger = Ledger(self._database)
        self.analyses = Analyses(self._database)
        self.jobs = JobQueue(self._database)
        self.control = JobControl(self._database)
        self.versions = Versions(self._database)

    def pix_of(self, video_ids: Collection[str], bounds: Bounds = ANY) -> dict[str, int]:
        """Return the PIX of those of `video_ids` that are searchable now and within bounds."""
        query = select(_videos.id, _videos.pix).where(
            _videos.state == "ready", *bounds.conditions()
        )
        return dict(
            self._rows(query, _videos.id, video_ids)
        )  # by name, it takes half as long again

    def segments(self, segment_ids: Collection[str]) -> dict[str, SegmentFacts]:
        """Return the facts of those of `segment_ids` that exist, by id."""
        return {
            row.id: _segment_facts(row)
            for row in self._rows(_SEGMENT_FACTS, _segments.id, segment_ids)
        }

    def segments_of(self, video_id: str) -> list[SegmentFacts]:
        """Return the facts of a video's segments, in order."""
        query = _SEGMENT_FACTS.where(_segments.video_id == video_id).order_by(_segments.index)
        with self._database.read() as connection:
            return [_segment_facts(row) for row in connection.execute(query)]

    def videos(self, video_ids: Collection[str]) -> dict[str, VideoFacts]:
        """Return the facts of those of `video_ids` that exist, by id."""
        return {
            row.id: VideoFacts(
                video_id=row.id,
                title=row.title,
                creator_id=row.creator_id,
                category=row.category,
                created_at=row.created_at,
                duration_s=row.duration_s or 0.0,
                has_pictures=row.width is not None,
            )
            for row in self._rows(_VIDEO_FACTS, _videos.id, video_ids)
        }

    def videos_within(self, bounds: Bounds, limit: int | None = None) -> tuple[str, ...]:
        """Return the searchable videos within bounds, most PIX first."""
        query = (
            select(_videos.id)
            .where(_videos.state == "ready", *bounds.conditions())
            .order_by(_videos.pix.desc(), _videos.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def _rows(
        self, query: Select[*_Cells], column: ColumnElement[str], ids: Collection[str]
    ) -> list[Row[*_Cells]]:
        rows: list[Row[*_Cells]] = []
        with self._database.read() as connection:
            for batch in id_batches(ids):
                rows.extend(connection.execute(query.where(column.in_(batch))))
        return rows


_VIDEO_FACTS = select(
    _videos.id,
    _videos.title,
    _videos.creator_id,
    _videos.category,
    _videos.created_at,
    _videos.duration_s,
    _videos.width,
)
_SEGMENT_FACTS = select(
    _segments.id,
    _segments.video_id,
    _segments.start_s,
    _segments.end_s,
    _segments.text,
    _segments.scene_index,
    _segments.index.label("position"),  # a row is a tuple, which has an `index` already
)


def _segment_facts(row: Row[*_Cells]) -> SegmentFacts:
    return SegmentFacts(
        segment_id=row.id,
        video_id=row.video_id,
        start_s=row.start_s,
        end_s=row.end_s,
        text=row.text,
        scene_index=row.scene_index,
        index=row.position,
    )
