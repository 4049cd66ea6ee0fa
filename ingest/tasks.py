"""What each kind of job does: an ingest, a deletion, and the index's copies of metadata.

Every job may be run again after a crash at any point: segment ids, vectors and rows are the same
each time, they replace what an interrupted try left, and what that try left too much is removed.
"""

import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gateway.api.copies import copy_metadata
from gateway.api.incoming import room
from gateway.catalogue.analyses import VideoRecord
from gateway.catalogue.claims import HEARING, ClaimedJob
from gateway.doors import Doors
from gateway.errors import MediaRefused, ModelFailed, NotFound, Unavailable
from gateway.index.milvus import has_row
from gateway.index.rows import LEGS, IndexRow
from ingest.depth import deeper
from ingest.kept import SCENES_FILE, read_kept, write_scenes
from ingest.lease import Lease
from ingest.pipeline import Analysis, AnalysisRequest, analyse
from ingest.progress import Progress
from ingest.records import findings, index_rows
from ingest.thumbnails import THUMBNAILS_FILE, write_thumbnails
from ingest.tokens import TOKENS_FILE, kept_tokens_path
from ingest.transcripts.speech import WORDS_FILE

log = logging.getLogger("pixserve.worker")

READY_S = 1.0  # for Triton to say that it is there
WRITE_S = 60.0  # for all rows of one video
DELETE_S = 30.0
PREPARE_S = 10.0  # for making the collections
LOST_PARTS = ("triton", "sandbox")  # what a file can take down that is analysed


Analyser = Callable[[Path, AnalysisRequest, Progress], Awaitable[Analysis]]


class PartLost(Exception):  # noqa: N818 (names what happened; never leaves the worker)
    """A part that was there when an analysis began did not survive it, or does not answer."""

    def __init__(self, part: str) -> None:
        super().__init__(part)
        self.part = part


async def ingest(
    doors: Doors, job: ClaimedJob, lease: Lease, analyser: Analyser | None = None
) -> None:
    """Analyse a video and make it searchable; with more PIX it finds more.

    A job to deepen looks only at what the tokens of earlier analyses do not have.

    Args:
        doors: of the worker.
        job: claimed.
        lease: on it.
        analyser: who does the work between the file and what was found; None: this process.

    Raises:
        MediaRefused: the video cannot be analysed.
        Conflict: it was deleted meanwhile.
        Unavailable: Triton, Milvus or the catalogue does not answer.
    """
    analyses = doors.catalogue.analyses
    record = await doors.threads.call(analyses.record, job.video_id)
    await require_parts(doors)
    await doors.threads.call(analyses.begin, record.id)
    folder = doors.settings.videos_dir / record.id
    request = await doors.disk.call(analysis_request, doors, record, folder)
    if job.kind == "deepen":
        request = await _from_what_is_kept(doors, request, folder)
    work = analyser or _here(doors)
    analysis = await _analysed(work, folder / record.source_name, request, lease)
    seen = analysis.counts
    log.info("video %s: %d frames, %d of them known", record.id, seen.frames, seen.known_frames)
    lease.tell("index", 95)
    lease.commit()
    await store(doors, record, analysis, is_new=job.is_first_try)


async def store(doors: Doors, record: VideoRecord, analysis: Analysis, *, is_new: bool) -> None:
    """Keep what was found in a video: files, index, catalogue, in this order; searchable after it.

    Where its speech is to be heard, that is queued.

    Args:
        doors: where it goes.
        record: the video as it was when its analysis began.
        analysis: what was found.
        is_new: nothing of the video was ever written to the index.

    Raises:
        Conflict: it was deleted meanwhile.
        StorageFull: the disk is full.
        Unavailable: Milvus or the catalogue does not answer.
    """
    analyses = doors.catalogue.analyses
    await doors.disk.call(_keep_files, analysis, doors.settings.videos_dir / record.id)
    rows = index_rows(record, analysis)
    await write_index(doors, record.id, rows, is_new=is_new and record.state != "ready")
    found = findings(record, analysis, doors.bundle.id)
    await doors.threads.call(analyses.store, record.id, found)
    await doors.threads.call(doors.catalogue.ledger.deepen, record.id, deeper(doors.settings))
    if analysis.said.is_awaited:
        queue = doors.catalogue.control.enqueue
        await doors.threads.call(queue, [record.id], HEARING)


async def delete(doors: Doors, job: ClaimedJob, lease: Lease) -> None:
    """Remove all that is left of a video: its rows in the index, its files, its record.

    Raises:
        Unavailable: Milvus or the catalogue does not answer, or rows are still there.
    """
    lease.tell("index", 0)
    await erase_rows(doors, job.video_id)
    lease.tell("files", 50)
    await doors.disk.call(remove_folder, doors.settings.videos_dir / job.video_id)
    lease.tell("catalogue", 80)
    left = await doors.threads.call(doors.catalogue.library.remove, job.video_id)
    if left:
        raise Unavailable("catalogue", f"rows of {job.video_id} are still there: {left}")


async def erase_rows(doors: Doors, video_id: str) -> None:
    """Remove a video from the collections of every bundle.

    Raises:
        Unavailable: Milvus does not answer, or has rows of it even so.
    """
    left = await doors.milvus.inventory.erase_video(video_id, timeout_s=DELETE_S)
    if left:
        raise Unavailable("milvus", f"rows of {video_id} are still there: {left}")


async def repair_copies(doors: Doors, limit: int) -> None:
    """Bring the index's copies of changed metadata up to date, of `limit` videos at most."""
    outdated = await doors.threads.call(doors.catalogue.analyses.outdated, limit)
    for video_id in outdated:
        with suppress(NotFound):  # deleted since
            await copy_metadata(doors, video_id)


# ---- steps of an ingest -------------------------------------------------------------------------


def _here(doors: Doors) -> Analyser:
    def analysed(path: Path, request: AnalysisRequest, tell: Progress) -> Awaitable[Analysis]:
        return analyse(path, request, doors.settings, doors.triton, tell)

    return analysed


async def _from_what_is_kept(
    doors: Doors, request: AnalysisRequest, folder: Path
) -> AnalysisRequest:
    """Return the request with what earlier analyses of the video found."""
    segments = await doors.threads.call(doors.catalogue.segments_of, request.video_id)
    return replace(request, kept=await doors.disk.call(read_kept, folder, doors.bundle, segments))


async def _analysed(
    analyser: Analyser, path: Path, request: AnalysisRequest, lease: Lease
) -> Analysis:
    """Analyse a video, and tell apart a part that was away from one that was lost under it."""
    try:
        return await analyser(path, request, lease.tell)
    except ModelFailed:
        raise
    except Unavailable as error:
        if error.part not in LOST_PARTS:
            raise
        raise PartLost(error.part) from error


async def require_parts(doors: Doors) -> None:
    """Find out before the work, not after it, whether its result has somewhere to go."""
    if not await doors.triton.ready(timeout_s=READY_S):
        raise Unavailable("triton", "triton is not ready")
    await doors.milvus.ensure_collections(doors.bundle, timeout_s=PREPARE_S)


def analysis_request(doors: Doors, record: VideoRecord, folder: Path) -> AnalysisRequest:
    """Return what an analysis must know of a video beside its file; reads its transcript.

    Raises:
        MediaRefused: the file is not there.
    """
    name = record.transcript_name
    if not (folder / record.source_name).is_file():
        raise MediaRefused("missing", "the file is not in the data folder: upload it again")
    return AnalysisRequest(
        video_id=record.id,
        pix=record.pix,
        bundle=doors.bundle,
        category=record.category,
        transcript=(folder / name).read_bytes() if name else None,
        transcript_name=name,
        language=record.language,
        words_path=folder / WORDS_FILE,
    )


def _keep_files(analysis: Analysis, folder: Path) -> None:
    ids = [row.segment_id for row in analysis.segments]
    with room():
        analysis.tokens.write(folder / TOKENS_FILE)
        kept_tokens_path(folder, analysis.tokens.model_version).unlink(missing_ok=True)
        write_thumbnails(folder / THUMBNAILS_FILE, analysis.thumbnails, ids)
        write_scenes(folder / SCENES_FILE, analysis.found_scenes)


async def write_index(
    doors: Doors, video_id: str, rows: Sequence[IndexRow], *, is_new: bool = False
) -> None:
    """Write a video's rows, then remove those that it has beside them: it is never without.

    Raises:
        Unavailable: Milvus does not answer.
    """
    await doors.milvus.write(doors.bundle, rows, timeout_s=WRITE_S)
    if is_new:
        return
    for leg in LEGS:
        there = await doors.milvus.inventory.segment_ids(
            doors.bundle, leg, video_id, timeout_s=WRITE_S
        )
        surplus = there - {row.segment_id for row in rows if has_row(row, leg)}
        await doors.milvus.inventory.delete_segments(doors.bundle, leg, surplus, timeout_s=DELETE_S)


def remove_folder(folder: Path) -> None:
    """Remove a video's folder, where there is one."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
