"""Writes a video's rows into the index again, from the catalogue and its kept tokens.

Nothing is decoded: frames, sounds and texts were embedded when the video was analysed. Only where
the tokens are gone, damaged, or another bundle's, is the video analysed anew.
"""

import logging
from pathlib import Path

from gateway.catalogue.catalogue import SegmentFacts
from gateway.catalogue.claims import ClaimedJob
from gateway.doors import Doors
from gateway.errors import ConfigurationError, NotFound
from ingest.from_tokens import check_texts, rows_from_tokens
from ingest.lease import Lease
from ingest.pipeline import fused_of
from ingest.tasks import ingest, require_parts, write_index
from ingest.tokens import Tokens, read_tokens, tokens_path

log = logging.getLogger("pixserve.worker")


async def reindex(doors: Doors, job: ClaimedJob, lease: Lease) -> None:
    """Make the index have exactly the rows of a video that the catalogue and its tokens say.

    Raises:
        MediaRefused: it must be analysed anew, and cannot be.
        Conflict, NotFound: it is being deleted, or gone.
        Unavailable: Triton, Milvus or the catalogue does not answer.
    """
    record = await doors.threads.call(doors.catalogue.analyses.record, job.video_id)
    if record.state in ("failed", "deleting"):
        raise NotFound(f"the video {record.id} is {record.state}: there is nothing to index")
    await require_parts(doors)
    segments = await doors.threads.call(doors.catalogue.segments_of, record.id)
    folder = doors.settings.videos_dir / record.id
    try:
        tokens = await doors.disk.call(checked_tokens, doors, folder, segments)
    except ConfigurationError as error:
        log.info("video %s is analysed anew: %s", record.id, error)
        await ingest(doors, job, lease)
        return
    lease.tell("fuse", 20)
    fused = await fused_of(doors.triton, tokens)
    lease.tell("index", 60)
    lease.commit()
    rows = rows_from_tokens(record, segments, tokens, fused)
    await write_index(doors, record.id, rows)
    await doors.threads.call(doors.catalogue.analyses.mark_indexed, record.id, record.revision)


def checked_tokens(doors: Doors, folder: Path, segments: list[SegmentFacts]) -> Tokens:
    """Return a video's tokens of the doors' bundle.

    Raises:
        ConfigurationError: there are none, or they are of other segments or texts.
    """
    tokens = read_tokens(tokens_path(folder, doors.bundle.id), doors.bundle)
    check_texts(tokens, segments)
    return tokens
