"""Which jobs may be claimed, in which order, and by whom they are held: the queue's conditions."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import Connection, RowMapping, literal, or_, select, update
from sqlalchemy.sql.dml import Update
from sqlalchemy.sql.elements import ColumnElement

from gateway.catalogue import tables
from gateway.catalogue.clock import now_s, timestamp

Kind = Literal["ingest", "deepen", "reindex", "hear", "transcribe", "delete"]
Lane = Literal["analyses", "hearing"]
"""Hearing is a lane of its own: it takes hours, and writes neither index nor segments, so it goes
on beside any other job of its video."""

HEARING: Kind = "hear"  # the indexes of `tables.jobs` name it too
OF_SPEECH: tuple[Kind, ...] = (HEARING, "transcribe")  # without them a video has no words

Turn: TypeAlias = tuple[ColumnElement[bool], Sequence[ColumnElement[Any]]]

_jobs = tables.jobs.c


class ClaimedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that a worker holds until its lease ends."""

    id: str
    video_id: str
    kind: Kind
    attempts: int  # with this one
    kills: int  # times that its worker was killed from outside, not counted among the attempts
    waits: int
    cancelled: bool  # asked to stop before it was claimed
    worker: str

    @property
    def is_first_try(self) -> bool:
        """Whether nobody has worked on it before."""
        return self.attempts == 1 and self.kills == 0 and self.waits == 0


def held(job: ClaimedJob) -> Update:
    """Update a job as long as it is its worker's."""
    ours = (_jobs.id == job.id) & (_jobs.worker == job.worker) & (_jobs.state == "running")
    return update(tables.jobs).where(ours).values(updated_at=timestamp())


def _abandoned() -> ColumnElement[bool]:
    """Running, but its worker let the lease end."""
    return (_jobs.state == "running") & (_jobs.lease_until_s < now_s())


def of_lane(kind: ColumnElement[str], lane: Lane) -> ColumnElement[bool]:
    """Say of a kind that a lane does it: spelt out, so that the lane's index serves."""
    hearing = literal(HEARING, literal_execute=True)
    return kind == hearing if lane == "hearing" else kind != hearing


def is_worked_on(video_id: ColumnElement[str], lane: Lane = "analyses") -> ColumnElement[bool]:
    """Say of a video that a job of this lane runs."""
    other = tables.jobs.alias()
    mine = of_lane(other.c.kind, lane) & (other.c.video_id == video_id)
    return select(other.c.id).where(mine, other.c.state == "running").exists()


def _rested(lane: Lane) -> ColumnElement[bool]:
    """Queued, its rest is over, and no job of the same video runs in this lane."""
    waits = (_jobs.state == "queued") & ~is_worked_on(_jobs.video_id, lane)
    return waits & (_jobs.run_at_s <= now_s())


def due(lane: Lane) -> ColumnElement[bool]:
    """Say of a job that it may be claimed now."""
    return of_lane(_jobs.kind, lane) & or_(_abandoned(), _rested(lane))


def turns(lane: Lane) -> Iterator[Turn]:
    """Yield what may be claimed now, most urgent first, each with its order.

    One after the other: each is served by an index, both together would sort every queued job.
    """
    mine = of_lane(_jobs.kind, lane)
    yield mine & _abandoned(), (_jobs.lease_until_s,)
    yield mine & _rested(lane), (_jobs.priority.desc(), _jobs.created_at)


def first(
    connection: Connection, wanted: ColumnElement[bool], order: Sequence[ColumnElement[Any]]
) -> RowMapping | None:
    """Return what a claim must know of the first job that a condition holds for."""
    told = (_jobs.id, _jobs.video_id, _jobs.kind, _jobs.attempts)
    query = (
        select(*told, _jobs.kills, _jobs.waits, _jobs.cancelled)
        .where(wanted)
        .order_by(*order)
        .limit(1)
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has one writer at a time
    )
    return connection.execute(query).mappings().first()


def take(connection: Connection, row: RowMapping, worker: str, lease_s: float) -> ClaimedJob:
    """Give a job that was found to a worker."""
    job = ClaimedJob(**{**row, "attempts": row["attempts"] + 1}, worker=worker)
    values = {
        "state": "running",
        "stage": "starting",
        "worker": worker,
        "attempts": job.attempts,
        "lease_until_s": now_s() + lease_s,
        "updated_at": timestamp(),
    }
    connection.execute(update(tables.jobs).where(_jobs.id == job.id).values(values))
    return job


def close_cancelled(connection: Connection) -> None:
    """End the jobs that were asked to stop and have no living worker that could obey.

    What has an end of its own is left to who claims it, unless its video is being deleted: an
    ingest has files and rows to be removed, and of speech that is not heard the reason is told.
    """
    analysed = select(tables.videos.c.id).where(
        tables.videos.c.id == _jobs.video_id, tables.videos.c.state != "deleting"
    )
    connection.execute(
        update(tables.jobs)
        .where(_abandoned(), _jobs.cancelled.is_(True))
        .where(~(_jobs.kind.in_(("ingest", *OF_SPEECH)) & analysed.exists()))
        .values(state="cancelled", updated_at=timestamp(), worker=None)
    )
