"""Durable jobs: enqueued in the catalogue, claimed under a lease, retried with back-off.

One worker at a time works on a video (a unique index says so), and a job whose worker died is
claimed again when its lease ends.
"""

import secrets
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, literal, select, update
from sqlalchemy.sql.elements import ColumnElement

from gateway.catalogue import tables
from gateway.catalogue.analyses import mark_failed, tell_transcript
from gateway.catalogue.claims import (
    OF_SPEECH,
    ClaimedJob,
    Kind,
    Lane,
    close_cancelled,
    due,
    first,
    held,
    is_worked_on,
    take,
    turns,
)
from gateway.catalogue.clock import now_s, timestamp
from gateway.catalogue.database import Database
from gateway.errors import Conflict, NotFound
from gateway.schemas import Job, JobState, Modality

BACKOFF_FIRST_S = 0.5  # before a job is tried again; doubles with each try
BACKOFF_MAX_S = 10.0
MAX_ERROR_CHARS = 1_000

INGEST_CANCELLED = "cancelled: the analysis was stopped; upload the file again to analyse it"
UNHEARD = Modality(percent=0, state="absent", reason="cancelled: what is said is not looked for")

_QUEUED: tuple[JobState] = ("queued",)
_jobs = tables.jobs.c


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

    def add(self, video_id: str, kind: Kind, priority: int = 0) -> Job:
        """Enqueue a job for a video; one of this kind that waits already is returned instead."""
        with self._database.write() as connection:
            waiting = latest_job(connection, video_id, kinds=(kind,), states=_QUEUED)
            return waiting or enqueue(connection, video_id, kind, priority)

    def counts(self) -> dict[tuple[Kind, JobState], int]:
        """Return how many jobs there are of each kind and state."""
        query = select(_jobs.kind, _jobs.state, func.count()).group_by(_jobs.kind, _jobs.state)
        with self._database.read() as connection:
            return {(kind, state): count for kind, state, count in connection.execute(query)}

    def is_due(self, lane: Lane = "analyses") -> bool:
        """Tell whether there is anything to claim: cheap, and takes no lock."""
        with self._database.read() as connection:
            looks = (
                select(_jobs.id).where(wanted).order_by(*order).limit(1)
                for wanted, order in turns(lane)
            )
            return any(connection.execute(look).first() is not None for look in looks)

    def is_running(self, video_id: str) -> bool:
        """Tell whether a worker has a job of this video now; hearing changes nothing of it."""
        with self._database.read() as connection:
            return bool(connection.execute(select(is_worked_on(literal(video_id)))).scalar_one())

    def claim(self, worker: str, *, lease_s: float, lane: Lane = "analyses") -> ClaimedJob | None:
        """Take a lane's most urgent due job for `lease_s` seconds; None where nothing is due.

        A job whose worker died comes first, however often: `attempts` tells whoever claims it.
        Of the others the highest priority counts, then age.
        """
        try:
            with self._database.write() as connection:
                close_cancelled(connection)
                for wanted, order in turns(lane):
                    row = first(connection, wanted, order)
                    if row is not None:
                        return take(connection, row, worker, lease_s)
                return None
        except Conflict:  # another worker took a job of the same video in this moment
            return None

    def claim_job(self, job_id: str, worker: str, *, lease_s: float) -> ClaimedJob | None:
        """Take this analysis; None where it rests, another worker has it, or it has ended."""
        try:
            with self._database.write() as connection:
                wanted = due("analyses") & (_jobs.id == job_id)
                row = first(connection, wanted, (_jobs.id,))
                return None if row is None else take(connection, row, worker, lease_s)
        except Conflict:
            return None

    def hold(self, job: ClaimedJob, *, lease_s: float) -> bool:
        """Prolong the lease of a job even if it was asked to stop; False when it is not ours."""
        return self._update(job, {"lease_until_s": now_s() + lease_s})

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
        """End a job for good, with an ingest its video, with hearing the hope for words.

        Returns:
            False when it was not ours any more.
        """
        told = error[:MAX_ERROR_CHARS]
        values = {"state": "failed", "error": told, "worker": None}
        with self._database.write() as connection:
            ours = connection.execute(held(job).values(values)).rowcount == 1
            if ours and job.kind == "ingest":
                mark_failed(connection, job.video_id, told)
            if ours and job.kind in OF_SPEECH:
                failed = Modality(percent=0, state="failed", reason=told)
                tell_transcript(connection, job.video_id, failed)
            return ours

    def cancel(self, job: ClaimedJob) -> bool:
        """End a job that was asked to stop; False when it was not ours any more.

        A video that was never searchable fails with its ingest; one that is being deleted or is
        searchable already stays as it is.
        """
        with self._database.write() as connection:
            values = {"state": "cancelled", "worker": None}
            ours = connection.execute(held(job).values(values)).rowcount == 1
            if ours and job.kind == "ingest":
                mark_failed(connection, job.video_id, INGEST_CANCELLED)
            if ours and job.kind in OF_SPEECH:
                tell_transcript(connection, job.video_id, UNHEARD)
            return ours

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
        statement = held(job).where(*conditions).values(values)
        with self._database.write() as connection:
            return connection.execute(statement).rowcount == 1


def backoff_s(waits: int) -> float:
    """Return how long a job rests that was put back `waits` times before, in seconds."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(waits, 16))


def enqueue(connection: Connection, video_id: str, kind: Kind, priority: int = 0) -> Job:
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
        "kills": 0,
        "waits": 0,
        "cancelled": False,
        "priority": priority,
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
    kinds: Collection[Kind] = (),
    states: Collection[JobState] = (),
) -> Job | None:
    """Return a video's newest job: of these kinds, and in one of these states, where given."""
    query = select(tables.jobs).where(_jobs.video_id == video_id)
    if kinds:
        query = query.where(_jobs.kind.in_(kinds))
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
