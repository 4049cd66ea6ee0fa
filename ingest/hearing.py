"""Brings what is said in a video into the index, which has what it shows and sounds like already.

Two jobs: `hear` recognises the speech and keeps it beside the video, for as long as that takes and
beside any other job of the video; `transcribe` then adds the words to what is indexed, from the
kept tokens on: nothing is decoded, segments and their ids stay.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from ensembles.contracts import MAX_TEXT_BATCH
from gateway.api.incoming import room
from gateway.catalogue.analyses import VideoRecord
from gateway.catalogue.catalogue import SegmentFacts
from gateway.catalogue.claims import ClaimedJob
from gateway.doors import Doors
from gateway.errors import ConfigurationError, NotFound
from ingest.from_tokens import check_segments, rows_from_tokens, with_texts
from ingest.lease import Lease
from ingest.media import MediaInfo
from ingest.pipeline import fused_of, said_in
from ingest.plan import modality_weights
from ingest.probe import probe
from ingest.records import transcript
from ingest.tasks import analysis_request, ingest, require_parts, write_index
from ingest.tokens import Tokens, read_tokens, tokens_path
from ingest.transcripts.said import Said, recognised
from ingest.transcripts.speech import WORDS_FILE
from ingest.transcripts.subtitles import segment_texts

TRANSCRIBE_PRIORITY = -5  # after uploads, before what is indexed anew
EMBED_S = 60.0  # for MAX_TEXT_BATCH texts on a busy machine

log = logging.getLogger("pixserve.worker")


async def hear(doors: Doors, job: ClaimedJob, lease: Lease) -> None:
    """Recognise the speech of a searchable video, and queue the job that makes it searchable.

    Raises:
        MediaRefused: it cannot be recognised; `reason` is speech where the file is not to blame.
        Conflict, NotFound: the video is being deleted, or gone.
        StorageFull: what is heard cannot be kept.
        Unavailable: the sandbox died, or the catalogue does not answer.
    """
    record = await _searchable(doors, job.video_id)
    path = doors.settings.videos_dir / record.id / record.source_name
    info, said = await _said(doors, record)
    if said.is_awaited:
        kept = path.with_name(WORDS_FILE)
        await recognised(path, info, doors.settings, kept, lambda n: lease.tell("hear", 100 * n))
    queue = doors.catalogue.control.enqueue
    await doors.threads.call(queue, [record.id], "transcribe", TRANSCRIBE_PRIORITY)


async def transcribe(doors: Doors, job: ClaimedJob, lease: Lease) -> None:
    """Make a video's words searchable; without usable tokens it is analysed anew, with them.

    Everything is written as by an analysis: tokens, index, catalogue, in this order.

    Raises:
        MediaRefused: the file cannot be read.
        Conflict, NotFound: the video is being deleted, or gone.
        StorageFull: the disk is full.
        Unavailable: Triton, Milvus or the catalogue does not answer.
    """
    record = await _searchable(doors, job.video_id)
    await require_parts(doors)
    segments = await doors.threads.call(doors.catalogue.segments_of, record.id)
    path = tokens_path(doors.settings.videos_dir / record.id, doors.bundle.id)
    try:
        tokens = await doors.disk.call(_tokens, path, doors, segments)
    except ConfigurationError as error:
        log.info("video %s is analysed anew: %s", record.id, error)
        await ingest(doors, job, lease)
        return
    info, said = await _said(doors, record)
    spoken = _with_words(segments, said, info.duration_s)
    lease.tell("embed", 20)
    tokens = await _embedded(doors, tokens, spoken, record.category)
    fused = await fused_of(doors.triton, tokens)
    lease.tell("index", 60)
    lease.commit()
    await doors.disk.call(_keep, tokens, path)
    await write_index(doors, record.id, rows_from_tokens(record, spoken, tokens, fused))
    texts = {segment.segment_id: segment.text for segment in spoken}
    now = transcript(replace(said, is_awaited=False), texts.values())
    store = doors.catalogue.analyses.store_transcript
    await doors.threads.call(store, record.id, texts, now, record.revision)


# ---- steps --------------------------------------------------------------------------------------


async def _searchable(doors: Doors, video_id: str) -> VideoRecord:
    record = await doors.threads.call(doors.catalogue.analyses.record, video_id)
    if record.state != "ready":
        raise NotFound(f"the video {video_id} is {record.state}: it is not transcribed")
    return record


async def _said(doors: Doors, record: VideoRecord) -> tuple[MediaInfo, Said]:
    """Return what a file is, and what is known of what is said in it."""
    folder = doors.settings.videos_dir / record.id
    request = await doors.disk.call(analysis_request, doors, record, folder)
    path = folder / record.source_name
    info = await asyncio.to_thread(probe, path, max_duration_s=doors.settings.max_duration_s)
    return info, await said_in(path, info, request, doors.settings)


def _tokens(path: Path, doors: Doors, segments: Sequence[SegmentFacts]) -> Tokens:
    """Return a video's tokens, whichever words they have."""
    tokens = read_tokens(path, doors.bundle)
    check_segments(tokens, segments)
    return tokens


def _with_words(
    segments: Sequence[SegmentFacts], said: Said, duration_s: float
) -> list[SegmentFacts]:
    """Return segments with what is said in each."""
    spans_s = [(segment.start_s, segment.end_s) for segment in segments]
    texts = segment_texts(said.cues, spans_s, duration_s)
    told = zip(segments, texts, strict=True)
    return [msgspec.structs.replace(segment, text=text) for segment, text in told]


async def _embedded(
    doors: Doors, tokens: Tokens, segments: Sequence[SegmentFacts], category: str | None
) -> Tokens:
    """Return a video's tokens with those of its words."""
    spoken = [segment for segment in segments if segment.text]
    embeddings = [np.zeros((0, doors.bundle.dims.sentence), np.float32)]
    for first in range(0, len(spoken), MAX_TEXT_BATCH):
        texts = [segment.text for segment in spoken[first : first + MAX_TEXT_BATCH]]
        embeddings.append(await doors.triton.embed_text(texts, "passage", timeout_s=EMBED_S))
    numbers = [segment.index for segment in spoken]
    return with_texts(tokens, numbers, np.concatenate(embeddings), modality_weights(category))


def _keep(tokens: Tokens, path: Path) -> None:
    with room():
        tokens.write(path)
