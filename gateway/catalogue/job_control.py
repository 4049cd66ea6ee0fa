"""What people and machines ask of jobs from outside: to stop, to come sooner, to be forgotten."""

from collections.abc import Callable, Collection, Sequence

from sqlalchemy import Connection, RowMapping, delete, func, select, update

from gateway.catalogue import tables
from gateway.catalogue.analyses import tell_transcript
from gateway.catalogue.claims import HEARING, OF_SPEECH, Kind
from gateway.catalogue.clock import now_s, text_of, timestamp
from gateway.catalogue.database import Database, id_batches
from gateway.catalogue.job_queue import UNHEARD, enqueue, latest_job, to_job
from gateway.errors import Conflict, NotFound
from gateway.schemas import Job, JobState

KEEP_ENDED_S = 7 * 86_400.0  # ended jobs are told of for so long
ENQUEUE_BATCH = 500  # jobs added in one transaction
PURGE_BATCH = 1_000  # jobs removed in one transaction

WAITING: tuple[JobState, ...] = ("queued",)
AT_WORK: tuple[JobState, ...] = ("queued", "running")
ENDED: tuple[JobState, ...] = ("succeeded", "failed", "cancelled")

_jobs = tables.jobs.c
_videos = tables.videos.c


class JobControl:
    """The jobs of one catalogue, as those see them who do not do them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, *, state: JobState | None, video_id: str | None, limit: int) -> tuple[Job, ...]:
        """Return up to `limit` jobs, newest first: in this state, of this video, where given."""
        query = select(tables.jobs).order_by(_jobs.created_at.desc(), _jobs.id).limit(limit)
        if state is not None:
            query = query.where(_jobs.state == state)
        if video_id is not None:
            query = query.where(_jobs.video_id == video_id)
        with self._database.read() as connection:
            return tuple(to_job(row) for row in connection.execute(query).mappings())

    def many(self, job_ids: Collection[str]) -> dict[str, Job]:
        """Return those of the jobs that exist, by id."""
        found: dict[str, Job] = {}
        with self._database.read() as connection:
            for batch in id_batches(job_ids):
                query = select(tables.jobs).where(_jobs.id.in_(batch))
                rows = connection.execute(query).mappings()
                found.update({row["id"]: to_job(row) for row in rows})
        return found

    def cancel(self, job_id: str) -> Job:
        """Stop a job: at once where it waits, else its worker stops it within a moment.

        A cancelled ingest ends its video, whose file is removed by a worker. Cancelling twice is
        harmless.

        Raises:
            NotFound: there is no such job.
            Conflict: it has ended otherwise, or is a deletion, which cannot be undone.
        """
        with self._database.write() as connection:
            row = _row(connection, job_id)
            if row["kind"] == "delete":
                raise Conflict(f"job {job_id} deletes a video: a deletion cannot be cancelled")
            if row["state"] in ("succeeded", "failed"):
                raise Conflict(f"job {job_id} has {row['state']} already: there is nothing to stop")
            here = update(tables.jobs).where(_jobs.id == job_id)
            if row["state"] == "queued" and row["kind"] != "ingest":
                ended = {"state": "cancelled", "cancelled": True, "updated_at": timestamp()}
                connection.execute(here.values(ended))
                if row["kind"] in OF_SPEECH:
                    tell_transcript(connection, row["video_id"], UNHEARD)
            elif row["state"] in ("queued", "running"):
                connection.execute(here.values(cancelled=True, run_at_s=now_s()))
            return to_job(_row(connection, job_id))

    def set_priority(self, job_id: str, priority: int) -> Job:
        """Say how urgent a job is that waits; of those that are due the highest comes first.

        Raises:
            NotFound: there is no such job.
            Conflict: it has ended.
        """
        with self._database.write() as connection:
            row = _row(connection, job_id)
            if row["state"] in ENDED:
                raise Conflict(f"job {job_id} has ended ({row['state']}): its turn has been")
            here = update(tables.jobs).where(_jobs.id == job_id)
            connection.execute(here.values(priority=priority, updated_at=timestamp()))
            return to_job(_row(connection, job_id))

    def enqueue(self, video_ids: Sequence[str], kind: Kind, priority: int = 0) -> list[Job]:
        """Enqueue a job for each of many videos; one of this kind that waits already counts.

        Where a video is being heard, that counts too: nothing of what is heard can change.
        """
        there = AT_WORK if kind == HEARING else WAITING
        jobs: list[Job] = []
        for start in range(0, len(video_ids), ENQUEUE_BATCH):
            with self._database.write() as connection:
                for video_id in video_ids[start : start + ENQUEUE_BATCH]:
                    waiting = latest_job(connection, video_id, kinds=(kind,), states=there)
                    jobs.append(waiting or enqueue(connection, video_id, kind, priority))
        return jobs

    def free_dead(self, is_dead: Callable[[str], bool], was_killed: Callable[[str], bool]) -> int:
        """Let the jobs of dead workers be claimed at once, before their leases end.

        Args:
            is_dead: tells it of a worker's name, and says no in doubt.
            was_killed: tells of a dead one whether it was killed from outside, so that the try
                does not count; says no in doubt.

        Returns:
            How many jobs were let go of.
        """
        held = select(_jobs.id, _jobs.worker).where(
            _jobs.state == "running", _jobs.worker.is_not(None)
        )
        with self._database.read() as connection:
            dead = [row for row in connection.execute(held) if is_dead(row.worker)]
        freed = 0
        for row in dead:
            ours = (_jobs.id == row.id) & (_jobs.worker == row.worker) & (_jobs.state == "running")
            released = update(tables.jobs).where(ours).values(lease_until_s=0.0, worker=None)
            if was_killed(row.worker):
                released = released.values(attempts=_jobs.attempts - 1, kills=_jobs.kills + 1)
            with self._database.write() as connection:
                freed += connection.execute(released).rowcount
        return freed

    def purge(self, *, keep_s: float = KEEP_ENDED_S) -> int:
        """Forget jobs that ended over `keep_s` seconds ago, a batch of them; return how many.

        The newest ingest of a video that is still there stays: uploads of the same content are
        answered with it.
        """
        newest = tables.jobs.alias()
        answers = (
            select(func.max(newest.c.created_at))
            .where(newest.c.video_id == _jobs.video_id, newest.c.kind == "ingest")
            .scalar_subquery()
        )
        video = select(_videos.id).where(_videos.id == _jobs.video_id).exists()
        needed = (_jobs.kind == "ingest") & (_jobs.created_at == answers) & video
        before = text_of(now_s() - keep_s)
        old = (
            select(_jobs.id)
            .where(_jobs.state.in_(ENDED), _jobs.updated_at < before, ~needed)
            .limit(PURGE_BATCH)
        )
        with self._database.write() as connection:
            ids = list(connection.execute(old).scalars())
            connection.execute(delete(tables.jobs).where(_jobs.id.in_(ids)))
        return len(ids)


def _row(connection: Connection, job_id: str) -> RowMapping:
    query = select(tables.jobs).where(_jobs.id == job_id).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return row
