"""Durable jobs: enqueued in the catalogue, claimed under a lease, retried with back-off.

One worker at a time works on a video (a unique index says so), and a job whose worker died is
claimed again when its lease ends.
"""

import secrets
from collections.abc import Collection
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, RowMapping, func, insert, or_, select, update
from sqlalchemy.sql.dml import Update
from sqlalchemy.sql.elements import ColumnElement

from gateway.catalogue import tables
from gateway.catalogue.analyses import mark_failed
from gateway.catalogue.clock import now_s, timestamp
from gateway.catalogue.database import Database
from gateway.errors import Conflict, NotFound
from gateway.schemas import Job, JobState

BACKOFF_FIRST_S = 0.5  # before a job is tried again; doubles with each try
BACKOFF_MAX_S = 10.0
MAX_ERROR_CHARS = 1_000

Kind = Literal["ingest", "deepen", "delete"]

_RUNNING: tuple[JobState] = ("running",)
_jobs = tables.jobs.c


class ClaimedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that a worker holds until its lease ends."""

    id: str
    video_id: str
    kind: Kind
    attempts: int  # with this one
    waits: int
    worker: str


class JobQueue:
    """The queue of one catalogue; safe for many workers, on SQLite and on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def job(self, job_id: str) -> Job:
        """Return a job; raises `NotFound`."""
        with self._database.read() as connection:
            query = select(tables.jobs).where(_jobs.id == job_id)
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no job {job_id}")
        return to_job(row)

    def counts(self) -> dict[tuple[Kind, JobState], int]:
        """Return how many jobs there are of each kind and state."""
        query = select(_jobs.kind, _jobs.state, func.count()).group_by(_jobs.kind, _jobs.state)
        with self._database.read() as connection:
            return {(kind, state): count for kind, state, count in connection.execute(query)}

    def is_due(self) -> bool:
        """Tell whether there is anything to claim: cheap, and takes no lock."""
        with self._database.read() as connection:
            return connection.execute(select(_jobs.id).where(_due()).limit(1)).first() is not None

    def is_running(self, video_id: str) -> bool:
        """Tell whether a worker has a job of this video now."""
        with self._database.read() as connection:
            return latest_job(connection, video_id, states=_RUNNING) is not None

    def claim(self, worker: str, *, lease_s: float) -> ClaimedJob | None:
        """Take the oldest due job for `lease_s` seconds; None where nothing is due.

        A job whose worker died comes again, however often: `attempts` tells whoever claims it.
        """
        try:
            with self._database.write() as connection:
                _close_cancelled(connection)
                return _claim(connection, worker, lease_s)
        except Conflict:  # another worker took a job of the same video in this moment
            return None

    def extend(
        self,
        job: ClaimedJob,
        *,
        lease_s: float,
        stage: str | None = None,
        percent: int | None = None,
    ) -> bool:
        """Prolong the lease and tell the progress; False when the job is not ours any more.

        False means: stop, and write nothing more.
        """
        values: dict[str, Any] = {"lease_until_s": now_s() + lease_s}
        if stage is not None:
            values["stage"] = stage
        if percent is not None:
            values |= {"percent": percent, "waits": 0}
        return self._update(job, values, _jobs.cancelled.is_(False))

    def finish(self, job: ClaimedJob) -> bool:
        """End a job well; False when it was not ours any more."""
        values = {"state": "succeeded", "stage": "done", "percent": 100, "error": None}
        return self._update(job, values | {"worker": None})

    def fail(self, job: ClaimedJob, error: str) -> bool:
        """End a job for good, and with an ingest its video; False when it was not ours any more."""
        told = error[:MAX_ERROR_CHARS]
        values = {"state": "failed", "error": told, "worker": None}
        with self._database.write() as connection:
            ours = connection.execute(_held(job).values(values)).rowcount == 1
            if ours and job.kind == "ingest":
                mark_failed(connection, job.video_id, told)
            return ours

    def cancel(self, job: ClaimedJob) -> bool:
        """End a job that was asked to stop; False when it was not ours any more."""
        return self._update(job, {"state": "cancelled", "worker": None})

    def put_back(self, job: ClaimedJob, *, stage: str, counted: bool, delay: bool = True) -> bool:
        """Give a job up so that it is tried again; False when it was not ours any more.

        Args:
            job: what to give up.
            stage: why, for who looks at the job: `waiting: milvus is not reachable`.
            counted: whether this try counts; waiting for another part of the stack does not.
            delay: wait the longer, the more often it was put back; otherwise it is due at once.
        """
        pause_s = backoff_s(job.waits) if delay else 0.0
        values = {
            "state": "queued",
            "stage": stage[:MAX_ERROR_CHARS],
            "run_at_s": now_s() + pause_s,
            "waits": job.waits + 1,
            "attempts": job.attempts if counted else job.attempts - 1,
            "worker": None,
        }
        return self._update(job, values)

    def _update(
        self, job: ClaimedJob, values: dict[str, Any], *conditions: ColumnElement[bool]
    ) -> bool:
        statement = _held(job).where(*conditions).values(values)
        with self._database.write() as connection:
            return connection.execute(statement).rowcount == 1


def backoff_s(waits: int) -> float:
    """Return how long a job rests that was put back `waits` times before, in seconds."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(waits, 16))


def enqueue(connection: Connection, video_id: str, kind: Kind) -> Job:
    """Append a job to the queue, in the transaction of what makes it needed."""
    now = timestamp()
    row: dict[str, Any] = {
        "id": secrets.token_hex(8),
        "video_id": video_id,
        "kind": kind,
        "state": "queued",
        "stage": "queued",
        "percent": 0,
        "attempts": 0,
        "waits": 0,
        "cancelled": False,
        "run_at_s": now_s(),
        "lease_until_s": 0.0,
        "created_at": now,
        "updated_at": now,
    }
    connection.execute(insert(tables.jobs).values(row))
    return to_job({**row, "error": None})


def latest_job(
    connection: Connection,
    video_id: str,
    *,
    kind: Kind | None = None,
    states: Collection[JobState] = (),
) -> Job | None:
    """Return a video's newest job: of this kind, and in one of these states, where given."""
    query = select(tables.jobs).where(_jobs.video_id == video_id)
    if kind is not None:
        query = query.where(_jobs.kind == kind)
    if states:
        query = query.where(_jobs.state.in_(states))
    query = query.order_by(_jobs.created_at.desc(), _jobs.id).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else to_job(row)


def cancel_others(connection: Connection, video_id: str) -> None:
    """Cancel a video's queued jobs, and ask the worker of a running one to stop."""
    of_video = update(tables.jobs).where(_jobs.video_id == video_id)
    queued = of_video.where(_jobs.state == "queued")
    connection.execute(queued.values(state="cancelled", updated_at=timestamp()))
    connection.execute(of_video.where(_jobs.state == "running").values(cancelled=True))


def to_job(row: RowMapping | dict[str, Any]) -> Job:
    """Return a row of the jobs as the API tells it."""
    return Job(**{name: row[name] for name in Job.__struct_fields__})


def _held(job: ClaimedJob) -> Update:
    """Update a job as long as it is its worker's."""
    ours = (_jobs.id == job.id) & (_jobs.worker == job.worker) & (_jobs.state == "running")
    return update(tables.jobs).where(ours).values(updated_at=timestamp())


def _due() -> ColumnElement[bool]:
    now = now_s()
    queued = (_jobs.state == "queued") & (_jobs.run_at_s <= now)
    abandoned = (_jobs.state == "running") & (_jobs.lease_until_s < now)
    other = tables.jobs.alias()
    video_is_worked_on = (
        select(other.c.id)
        .where(other.c.video_id == _jobs.video_id, other.c.state == "running")
        .exists()
    )
    return or_(abandoned, queued & ~video_is_worked_on)


def _claim(connection: Connection, worker: str, lease_s: float) -> ClaimedJob | None:
    query = (
        select(_jobs.id, _jobs.video_id, _jobs.kind, _jobs.attempts, _jobs.waits)
        .where(_due())
        .order_by(_jobs.created_at, _jobs.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has one writer at a time
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
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


def _close_cancelled(connection: Connection) -> None:
    """End the jobs that were asked to stop and have no living worker that could obey."""
    abandoned = (_jobs.state == "running") & (_jobs.lease_until_s < now_s())
    connection.execute(
        update(tables.jobs)
        .where(abandoned, _jobs.cancelled.is_(True))
        .values(state="cancelled", updated_at=timestamp(), worker=None)
    )
