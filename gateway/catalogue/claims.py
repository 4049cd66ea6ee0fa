"""Which jobs may be claimed, in which order, and by whom they are held: the queue's conditions."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, RowMapping, or_, select, update
from sqlalchemy.sql.dml import Update
from sqlalchemy.sql.elements import ColumnElement

from gateway.catalogue import tables
from gateway.catalogue.clock import now_s, timestamp

Kind = Literal["ingest", "deepen", "reindex", "delete"]

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


def _waiting() -> ColumnElement[bool]:
    """Queued, and no job of the same video runs."""
    other = tables.jobs.alias()
    video_is_worked_on = (
        select(other.c.id)
        .where(other.c.video_id == _jobs.video_id, other.c.state == "running")
        .exists()
    )
    return (_jobs.state == "queued") & ~video_is_worked_on


def _rested() -> ColumnElement[bool]:
    return _waiting() & (_jobs.run_at_s <= now_s())


def due() -> ColumnElement[bool]:
    """Say of a job that it may be claimed now."""
    return or_(_abandoned(), _rested())


# One after the other: each is served by an index, both together would sort every queued job.
TURNS = (
    (_abandoned, (_jobs.lease_until_s,)),
    (_rested, (_jobs.priority.desc(), _jobs.created_at)),
)


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

    An ingest is left to who claims it, unless its video is being deleted: it has files and rows
    to be removed.
    """
    analysed = select(tables.videos.c.id).where(
        tables.videos.c.id == _jobs.video_id, tables.videos.c.state != "deleting"
    )
    connection.execute(
        update(tables.jobs)
        .where(_abandoned(), _jobs.cancelled.is_(True))
        .where(~((_jobs.kind == "ingest") & analysed.exists()))
        .values(state="cancelled", updated_at=timestamp(), worker=None)
    )
