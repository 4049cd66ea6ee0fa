"""What a worker does with a job: its turn, the work itself, and what becomes of the job after it.

A job ends in one of five ways. It succeeds. It waits, for as long as it takes, for a part that
was not there. It is tried again, after a rest that grows, where a bug or a part that died under
it may have been bad luck; `job_attempts` tries are the end of that, and from the second one on it
runs alone, so that it takes no other job down with it. It fails at once where its file is to
blame. Or it is cancelled.

A worker that was killed from outside (`ingest.ends`) costs its jobs no try.
"""

import asyncio
import logging
from contextlib import suppress

from gateway.catalogue.claims import ClaimedJob
from gateway.doors import Doors
from gateway.errors import (
    ConfigurationError,
    Conflict,
    MediaRefused,
    ModelFailed,
    NotFound,
    Overloaded,
    PixserveError,
    StorageFull,
    Unavailable,
)
from ingest.hearing import hear, transcribe
from ingest.lease import Lease
from ingest.reindex import reindex
from ingest.tasks import DELETE_S, Analyser, PartLost, delete, erase_rows, ingest, remove_folder
from ingest.turns import Turns

WAITS_FOR = (Unavailable, Overloaded, StorageFull)  # they pass: the job waits and is not to blame
# Refusals that may be our own bug, or this machine's load, rather than the file's fault.
DOUBTFUL_REASONS = frozenset({"decoder_failed", "wall_time"})

MAX_KILLS = 100  # of its workers from outside: a job that sees more of them is not innocent

log = logging.getLogger("pixserve.worker")


async def run(
    doors: Doors, job: ClaimedJob, turns: Turns | None = None, analyser: Analyser | None = None
) -> None:
    """Do a claimed job and note its outcome; cancelled, put it back so that it is resumed.

    Args:
        doors: of the worker.
        job: which.
        turns: of the worker's lanes; None where there is one.
        analyser: who analyses the videos; None: this process.
    """
    if job.cancelled:
        await _stopped(doors, job)
        return
    if job.attempts > doors.settings.job_attempts:
        reason = f"begun {job.attempts - 1} times, and each time the worker did not survive it"
        await _refuse(doors, job, reason)
        return
    if job.kills > MAX_KILLS:
        await _refuse(doors, job, f"its worker was killed {job.kills} times")
        return
    lease = Lease(doors, job)
    work = asyncio.create_task(_in_turn(doors, job, lease, turns or Turns(1), analyser))
    keeper = asyncio.create_task(lease.keep(work))
    try:
        await _settled(doors, job, lease, work)
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper


async def _in_turn(
    doors: Doors, job: ClaimedJob, lease: Lease, turns: Turns, analyser: Analyser | None
) -> None:
    async with turns.turn(alone=job.attempts + job.kills > 1):
        match job.kind:
            case "delete":
                await delete(doors, job, lease)
            case "reindex":
                await reindex(doors, job, lease)
            case "hear":
                await hear(doors, job, lease)
            case "transcribe":
                await transcribe(doors, job, lease)
            case _:
                await ingest(doors, job, lease, analyser)


# ---- outcomes -----------------------------------------------------------------------------------


async def _settled(doors: Doors, job: ClaimedJob, lease: Lease, work: "asyncio.Task[None]") -> None:
    """Wait for the work, and note what came of it."""
    jobs = doors.catalogue.jobs
    try:
        await work
        await doors.threads.call(jobs.finish, job)
    except asyncio.CancelledError:
        if lease.lost:
            await _stopped(doors, job)
        else:
            await _put_back(doors, job, "interrupted", counted=False, delay=False)
        if _is_cancelled():
            raise
    except (Conflict, NotFound) as error:  # the video was deleted under the job
        log.info("job %s: %s", job.id, error)
        await doors.threads.call(jobs.cancel, job)
    except MediaRefused as error:
        await _media_refused(doors, job, error)
    except PartLost as error:
        stage = f"waiting: {error.part} does not answer"
        reason = f"{error.part} did not survive this video, {job.attempts} times"
        await _try_again(doors, job, stage, reason)
    except ModelFailed as error:  # an Unavailable that waiting does not mend
        log.exception("job %s failed", job.id)
        await _failed(doors, job, error)
    except WAITS_FOR as error:
        log.info("job %s waits: %s", job.id, error)
        await _put_back(doors, job, f"waiting: {_awaited(error)}", counted=False)
    except Exception as error:
        log.exception("job %s failed", job.id)
        await _failed(doors, job, error)


def _awaited(error: PixserveError) -> str:
    """Say what a job waits for; addresses and the network's own words are for the log alone."""
    if isinstance(error, Unavailable):
        return f"{error.part} does not answer"
    return error.message


def _is_cancelled() -> bool:
    """Tell whether this task itself is to end, not only the work that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _put_back(
    doors: Doors, job: ClaimedJob, stage: str, *, counted: bool, delay: bool = True
) -> None:
    log.info("job %s goes back to the queue: %s", job.id, stage)
    await doors.threads.call(
        doors.catalogue.jobs.put_back, job, stage=stage, counted=counted, delay=delay
    )


async def _media_refused(doors: Doors, job: ClaimedJob, error: MediaRefused) -> None:
    reason = f"{error.reason}: {error.message}"
    if error.reason in DOUBTFUL_REASONS:
        await _try_again(doors, job, "waiting to be tried again", reason)
    else:
        await _refuse(doors, job, reason)


async def _failed(doors: Doors, job: ClaimedJob, error: Exception) -> None:
    """Try a job again after a bug or a broken file system, but not for ever."""
    # A broken installation is told in the log: its message names files of this machine.
    known = isinstance(error, PixserveError) and not isinstance(error, ConfigurationError)
    reason = str(error) if known else "internal error; the worker's log says more"
    await _try_again(doors, job, "waiting to be tried again", reason)


async def _try_again(doors: Doors, job: ClaimedJob, stage: str, reason: str) -> None:
    """Put a job back after a rest; at the end of its tries, end it for a reason."""
    if job.attempts < doors.settings.job_attempts:
        await _put_back(doors, job, stage, counted=True)
    else:
        await _refuse(doors, job, reason)


async def _refuse(doors: Doors, job: ClaimedJob, reason: str) -> None:
    """End a job for good; a first analysis leaves nothing of its video but the reason.

    The reason comes last: as soon as it is told, the same file may be uploaded anew.
    """
    jobs, lease_s = doors.catalogue.jobs, doors.settings.job_lease_s + DELETE_S
    if not await doors.threads.call(jobs.extend, job, lease_s=lease_s):
        await _stopped(doors, job)  # it was to stop, or is another worker's
        return
    log.warning("job %s of video %s failed: %s", job.id, job.video_id, reason)
    if job.kind == "ingest" and not await _is_searchable(doors, job.video_id):
        await _clear(doors, job.video_id)
    await doors.threads.call(jobs.fail, job, reason)


async def _stopped(doors: Doors, job: ClaimedJob) -> None:
    """End a job that was asked to stop; a first analysis leaves nothing of its video.

    A deletion that asked for it goes on at once: it removes everything itself.
    """
    jobs, lease_s = doors.catalogue.jobs, doors.settings.job_lease_s + DELETE_S
    if not await doors.threads.call(jobs.hold, job, lease_s=lease_s):
        return  # another worker's
    log.info("job %s of video %s is cancelled", job.id, job.video_id)
    states = doors.catalogue.library.states
    state = (await doors.threads.call(states, [job.video_id])).get(job.video_id)
    if job.kind == "ingest" and state in ("queued", "processing"):
        await _clear(doors, job.video_id)
    await doors.threads.call(jobs.cancel, job)


async def _clear(doors: Doors, video_id: str) -> None:
    """Remove what an analysis left of a video, but for its record."""
    with suppress(Unavailable):  # it wrote nothing to an index that is not there
        await erase_rows(doors, video_id)
    await doors.disk.call(remove_folder, doors.settings.videos_dir / video_id)


async def _is_searchable(doors: Doors, video_id: str) -> bool:
    return video_id in await doors.threads.call(doors.catalogue.pix_of, [video_id])
