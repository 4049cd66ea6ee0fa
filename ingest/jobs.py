"""What a worker does with a job: the work itself, and what becomes of the job after it.

Every job may be run again after a crash at any point: segment ids, vectors and rows are the same
each time, and what an interrupted try left in the index is removed before the next one writes.
"""

import asyncio
import logging
import shutil
from contextlib import suppress
from pathlib import Path

from gateway.api.copies import copy_metadata
from gateway.api.incoming import room
from gateway.catalogue.analyses import VideoRecord
from gateway.catalogue.job_queue import ClaimedJob
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
from gateway.index.rows import VECTOR_LEGS
from ingest.depth import deeper
from ingest.lease import Lease
from ingest.pipeline import Analysis, AnalysisRequest, analyse
from ingest.records import findings, index_rows

READY_S = 1.0  # for Triton to say that it is there
WRITE_S = 60.0  # for all rows of one video
DELETE_S = 30.0
PREPARE_S = 10.0  # for making the collections
WAITS_FOR = (Unavailable, Overloaded, StorageFull)  # they pass: the job waits and is not to blame

log = logging.getLogger("pixserve.worker")


async def run(doors: Doors, job: ClaimedJob) -> None:
    """Do a claimed job and note its outcome; cancelled, put it back so that it is resumed."""
    if job.attempts > doors.settings.job_attempts:
        reason = f"begun {job.attempts - 1} times, and each time the worker did not survive it"
        await _refuse(doors, job, reason)
        return
    lease = Lease(doors, job)
    work = asyncio.create_task(_work(doors, job, lease))
    keeper = asyncio.create_task(lease.keep(work))
    try:
        await work
        await doors.threads.call(doors.catalogue.jobs.finish, job)
    except asyncio.CancelledError:
        if lease.lost:
            await doors.threads.call(doors.catalogue.jobs.cancel, job)
        else:
            await _put_back(doors, job, "interrupted", counted=False, delay=False)
        if _is_cancelled():
            raise
    except (Conflict, NotFound) as error:  # the video was deleted under the job
        log.info("job %s: %s", job.id, error)
        await doors.threads.call(doors.catalogue.jobs.cancel, job)
    except MediaRefused as error:
        await _refuse(doors, job, f"{error.reason}: {error.message}")
    except ModelFailed as error:  # an Unavailable that waiting does not mend
        log.exception("job %s failed", job.id)
        await _failed(doors, job, error)
    except WAITS_FOR as error:
        log.info("job %s waits: %s", job.id, error)
        await _put_back(doors, job, f"waiting: {_awaited(error)}", counted=False)
    except Exception as error:
        log.exception("job %s failed", job.id)
        await _failed(doors, job, error)
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper


def _awaited(error: PixserveError) -> str:
    """Say what a job waits for; addresses and the network's own words are for the log alone."""
    if isinstance(error, Unavailable):
        return f"{error.part} does not answer"
    return error.message


def _is_cancelled() -> bool:
    """Tell whether this task itself is to end, not only the work that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _work(doors: Doors, job: ClaimedJob, lease: Lease) -> None:
    if job.kind == "delete":
        await delete(doors, job, lease)
    else:
        await ingest(doors, job, lease)


async def ingest(doors: Doors, job: ClaimedJob, lease: Lease) -> None:
    """Analyse a video and make it searchable; done again with more PIX, it finds more.

    Raises:
        MediaRefused: the video cannot be analysed.
        Conflict: it was deleted meanwhile.
        Unavailable: Triton, Milvus or the catalogue does not answer.
    """
    analyses = doors.catalogue.analyses
    record = await doors.threads.call(analyses.record, job.video_id)
    await _require_parts(doors)
    await doors.threads.call(analyses.begin, record.id)
    folder = doors.settings.videos_dir / record.id
    request = await doors.disk.call(_request, doors, record, folder)
    analysis = await analyse(
        folder / record.source_name, request, doors.settings, doors.triton, lease.tell
    )
    lease.tell("index", 95)
    await doors.disk.call(_keep_tokens, analysis, folder)
    await _write_index(doors, job, record, analysis)
    found = findings(record, analysis, doors.bundle.id)
    await doors.threads.call(analyses.store, record.id, found)
    await doors.threads.call(doors.catalogue.ledger.deepen, record.id, deeper(doors.settings))


async def delete(doors: Doors, job: ClaimedJob, lease: Lease) -> None:
    """Remove all that is left of a video: its rows in the index, its files, its record.

    Raises:
        Unavailable: Milvus or the catalogue does not answer, or rows are still there.
    """
    lease.tell("index", 0)
    await doors.milvus.delete_video(doors.bundle, job.video_id, timeout_s=DELETE_S)
    for leg in VECTOR_LEGS:
        left = await doors.milvus.count(doors.bundle, leg, job.video_id, timeout_s=DELETE_S)
        if left:
            raise Unavailable("milvus", f"{left} rows of {job.video_id} are still in leg {leg}")
    lease.tell("files", 50)
    await doors.disk.call(_remove_folder, doors.settings.videos_dir / job.video_id)
    lease.tell("catalogue", 80)
    await doors.threads.call(doors.catalogue.library.remove, job.video_id)


async def repair_copies(doors: Doors, limit: int) -> None:
    """Bring the index's copies of changed metadata up to date, of `limit` videos at most."""
    outdated = await doors.threads.call(doors.catalogue.analyses.outdated, limit)
    for video_id in outdated:
        with suppress(NotFound):  # deleted since
            await copy_metadata(doors, video_id)


# ---- steps of an ingest -------------------------------------------------------------------------


async def _require_parts(doors: Doors) -> None:
    """Find out before the work, not after it, whether its result has somewhere to go."""
    if not await doors.triton.ready(timeout_s=READY_S):
        raise Unavailable("triton", "triton is not ready")
    await doors.milvus.ensure_collections(doors.bundle, timeout_s=PREPARE_S)


def _request(doors: Doors, record: VideoRecord, folder: Path) -> AnalysisRequest:
    name = record.transcript_name
    if not (folder / record.source_name).is_file():
        raise MediaRefused("missing", "the file is not in the data folder: upload it again")
    return AnalysisRequest(
        video_id=record.id,
        pix=record.pix,
        category=record.category,
        transcript=(folder / name).read_bytes() if name else None,
        transcript_name=name,
        language=record.language,
        model_version=doors.bundle.id,
    )


def _keep_tokens(analysis: Analysis, folder: Path) -> None:
    with room():
        analysis.tokens.write(folder / "tokens.npz")


async def _write_index(
    doors: Doors, job: ClaimedJob, record: VideoRecord, analysis: Analysis
) -> None:
    rows = index_rows(record, analysis)
    before = await doors.threads.call(doors.catalogue.analyses.segment_ids, record.id)
    tried_before = record.state != "ready" and (job.attempts > 1 or job.waits > 0)
    if tried_before or before - {row.segment_id for row in rows}:
        await doors.milvus.delete_video(doors.bundle, record.id, timeout_s=DELETE_S)
    await doors.milvus.write(doors.bundle, rows, timeout_s=WRITE_S)


# ---- outcomes -----------------------------------------------------------------------------------


async def _put_back(
    doors: Doors, job: ClaimedJob, stage: str, *, counted: bool, delay: bool = True
) -> None:
    log.info("job %s goes back to the queue: %s", job.id, stage)
    await doors.threads.call(
        doors.catalogue.jobs.put_back, job, stage=stage, counted=counted, delay=delay
    )


async def _failed(doors: Doors, job: ClaimedJob, error: Exception) -> None:
    """Try a job again after a bug or a broken file system, but not for ever."""
    if job.attempts < doors.settings.job_attempts:
        await _put_back(doors, job, "waiting to be tried again", counted=True)
        return
    # A broken installation is told in the log: its message names files of this machine.
    known = isinstance(error, PixserveError) and not isinstance(error, ConfigurationError)
    await _refuse(doors, job, str(error) if known else "internal error; the worker's log says more")


async def _refuse(doors: Doors, job: ClaimedJob, reason: str) -> None:
    """End a job for good; a first analysis leaves nothing of its video but the reason.

    The reason comes last: as soon as it is told, the same file may be uploaded anew.
    """
    jobs, lease_s = doors.catalogue.jobs, doors.settings.job_lease_s + DELETE_S
    if not await doors.threads.call(jobs.extend, job, lease_s=lease_s):
        await doors.threads.call(jobs.cancel, job)  # it was to stop, or is another worker's
        return
    log.warning("job %s of video %s failed: %s", job.id, job.video_id, reason)
    if job.kind == "ingest" and not await _is_searchable(doors, job.video_id):
        with suppress(Unavailable):  # it wrote nothing to an index that is not there
            await doors.milvus.delete_video(doors.bundle, job.video_id, timeout_s=DELETE_S)
        await doors.disk.call(_remove_folder, doors.settings.videos_dir / job.video_id)
    await doors.threads.call(doors.catalogue.jobs.fail, job, reason)


async def _is_searchable(doors: Doors, video_id: str) -> bool:
    return video_id in await doors.threads.call(doors.catalogue.pix_of, [video_id])


def _remove_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
