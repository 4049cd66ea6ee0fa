"""The way of a video: a file to its segments and tokens. `analyse` names the stages in order.

Decoding runs in the sandbox and in threads, embedding in Triton, so that while Triton embeds the
chunks in flight the next one is cut. Memory is bounded by those chunks, and by the bytes of frames
that are kept from the search for cuts (`ingest.scenes.MAX_FRAME_BYTES`).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from ensembles.arrays import FloatArray, UInt8Array
from ensembles.bundle import Bundle
from ensembles.chunk import ChunkEmbeddings, ChunkInput, SegmentTokens
from gateway.errors import PixserveError
from gateway.settings import Settings
from ingest.budget import pays_full_tier
from ingest.chunks import Chunk, cut_chunks
from ingest.from_tokens import to_fuse
from ingest.gathering import SegmentRow, rows_of, tokens_of
from ingest.kept import NOTHING_KEPT, FoundScenes, Kept
from ingest.looking import NO_FRAMES, Frames
from ingest.media import NO_KEYFRAMES, Keyframes, MediaInfo, PacketIndex
from ingest.missing import AtHand, DecodedFrames, merged, missing_of
from ingest.plan import Plan, modality_weights, plan_picture, plan_sound
from ingest.probe import probe_with_packets
from ingest.progress import EMBED_FROM_PERCENT, EMBED_TO_PERCENT, Progress, StageClock
from ingest.scenes import Scene, full_scenes, looked_ticks, pictured_scenes
from ingest.thumbnails import SIDE_PX, Thumbnails, spacing_s, thumbnails_of
from ingest.tokens import Tokens, no_tokens
from ingest.transcripts.said import NOTHING_SAID, Said, Sidecar, what_is_said
from ingest.transcripts.subtitles import segment_texts
from ingest.webp import PicturesWanted

IN_FLIGHT = 2  # chunks with Triton: one is decoded there while the other is embedded
CHUNK_TIMEOUT_S = 120.0  # for one chunk on a busy machine
FUSE_S = 30.0  # for some segments on a busy machine


class Fuser(Protocol):
    """What fuses tokens: `gateway.triton.Triton`."""

    async def fuse(self, tokens: SegmentTokens, *, timeout_s: float) -> FloatArray:
        """Fuse the tokens of some segments; raises `Unavailable` or `Overloaded`."""
        ...


class Embedder(Fuser, Protocol):
    """What embeds chunks and frames: `gateway.triton.Triton`."""

    async def embed_frames(self, frames: UInt8Array, *, timeout_s: float) -> FloatArray:
        """Embed decoded frames; raises `Unavailable` or `Overloaded`."""
        ...

    async def embed_video(self, chunk: ChunkInput, *, timeout_s: float) -> ChunkEmbeddings:
        """Embed one chunk; raises `Unavailable`, `MediaRefused` or `Overloaded`."""
        ...


@dataclass(frozen=True)
class AnalysisRequest:
    """What is known of a video beside its file."""

    video_id: str
    pix: int
    bundle: Bundle  # that embeds, noted in the tokens
    category: str | None = None
    transcript: bytes | None = None  # a subtitle file
    transcript_name: str | None = None
    language: str | None = None
    words_path: Path | None = None  # where recognised speech is kept; None: nothing is heard
    kept: Kept = NOTHING_KEPT  # of earlier analyses by this bundle: what it tells is not found anew


@dataclass(frozen=True)
class Counts:
    """How much of a video was looked at."""

    frames: int
    windows: int
    known_frames: int  # of the frames, those that an earlier analysis had looked at
    decoded_frames: int  # of the frames, those that were decoded while cuts were looked for
    cues: int


@dataclass(frozen=True)
class Analysis:
    """All that was found in a video."""

    info: MediaInfo
    scenes: tuple[Scene, ...]
    found_scenes: FoundScenes
    segments: tuple[SegmentRow, ...]
    tokens: Tokens
    thumbnails: Thumbnails
    counts: Counts
    stage_s: dict[str, float]  # wall time; cutting and embedding overlap
    said: Said = NOTHING_SAID


async def analyse(
    path: Path,
    request: AnalysisRequest,
    settings: Settings,
    triton: Embedder,
    progress: Progress,
) -> Analysis:
    """Analyse a video: probe, transcript, scenes, plan, then chunk by chunk cut and embed.

    Args:
        path: the file.
        request: what is known of the video.
        settings: rates, bounds and limits.
        triton: embeds the chunks.
        progress: told the stage and the percentage done, from the event loop.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be analysed; `reason` says why.
        InvalidRequest: the transcript is broken.
        Unavailable: Triton does not answer.
    """
    clock = StageClock(progress)
    with clock.stage("probe", 0):
        longest_s = settings.max_duration_s
        info, packets = await probe_with_packets(path, max_duration_s=longest_s)
    with clock.stage("transcript", 4):
        said = await said_in(path, info, request, settings)
    with clock.stage("scenes", 5):
        asked = (path, info, packets, request, settings)
        plan, looked_at = await asyncio.to_thread(_plan, *asked)
    spans_s = [(segment.start_s, segment.end_s) for segment in plan.segments]
    texts = segment_texts(said.cues, spans_s, info.duration_s)
    weights = modality_weights(request.category)
    known = request.kept.tokens or no_tokens(request.bundle)
    at_hand = AtHand(known, request.kept.texts, looked_at.frames)
    missing = missing_of(plan.segments, texts, weights, at_hand, packets, info.start_s)
    chunks = clock.each(
        "cut", cut_chunks(path, info, packets, missing.segments, missing.texts, weights, settings)
    )
    found: list[Tokens] = []
    with clock.stage("embed", EMBED_FROM_PERCENT):
        decoded = missing.decoded.in_batches(settings.max_chunk_frames)
        pieces: Iterator[DecodedFrames | Chunk] = chain(decoded, chunks)
        async for tokens in _embedded(pieces, request, triton):
            found.append(tokens)
            done = sum(len(one.segment_starts_s) for one in found)
            clock.tell(done / max(1, len(missing.segments)))
    with clock.stage("fuse", EMBED_TO_PERCENT):
        tokens = merged(missing.known, found)
        fused = await fused_of(triton, tokens)
    rows = rows_of(request.video_id, plan.segments, texts, tokens, fused)
    counts = Counts(
        frames=len(tokens.frames),
        windows=len(tokens.audio),
        known_frames=len(missing.known.frames),
        decoded_frames=len(missing.decoded.pixels),
        cues=len(said.cues),
    )
    thumbnails = thumbnails_of(looked_at.keyframes, plan.segments)
    return Analysis(
        info, plan.scenes, looked_at.found, rows, tokens, thumbnails, counts, clock.stage_s, said
    )


# ---- stages -------------------------------------------------------------------------------------


async def said_in(
    path: Path, info: MediaInfo, request: AnalysisRequest, settings: Settings
) -> Said:
    """Return what is said in a video, as far as that need not be heard first.

    Raises:
        InvalidRequest: its subtitle file is broken.
        MediaRefused, MediaLimitExceeded: its subtitle track cannot be read.
        Unavailable: the sandbox died.
    """
    sidecar = None
    if request.transcript is not None:
        sidecar = Sidecar(request.transcript, request.transcript_name or "transcript")
    asked = (sidecar, request.language, request.pix, settings, request.words_path)
    return await what_is_said(path, info, *asked)


@dataclass(frozen=True)
class _LookedAt:
    """What is there of a picture once its scenes are known."""

    found: FoundScenes
    keyframes: Keyframes = NO_KEYFRAMES
    frames: Frames = NO_FRAMES


def _plan(
    path: Path, info: MediaInfo, packets: PacketIndex, request: AnalysisRequest, settings: Settings
) -> tuple[Plan, _LookedAt]:
    """Find the scenes in the tier that PIX pays for, and choose what is looked at."""
    pix = request.pix
    if info.video is None:
        return plan_sound(info.duration_s, pix, settings), _LookedAt(FoundScenes())
    looked_at = _look(path, info, packets, request, settings)
    found = looked_at.found
    paid = pays_full_tier(info.duration_s, pix, settings)
    if paid and found.full_tier is None:
        found = FoundScenes(found.keyframe_tier, full_scenes(path, info, packets))
    plan = plan_picture(
        found.keyframe_tier,
        packets,
        info.duration_s,
        pix,
        settings,
        sound=info.audio is not None,
        full=found.full_tier or () if paid else (),
        looked=looked_ticks(info, packets),
    )
    return plan, replace(looked_at, found=found)


def _look(
    path: Path, info: MediaInfo, packets: PacketIndex, request: AnalysisRequest, settings: Settings
) -> _LookedAt:
    """Find the scenes of the keyframe tier, where an earlier analysis has not."""
    found, keyframes = request.kept.scenes, request.kept.keyframes
    if found is not None and keyframes.times_s:
        return _LookedAt(found, keyframes)
    wanted = PicturesWanted(SIDE_PX, spacing_s(info.duration_s, settings.segment_s))
    frame_px = request.bundle.dims.decoded_px if settings.decode_once else 0
    seen = pictured_scenes(path, info, packets, wanted, frame_px)
    again = FoundScenes(seen.scenes, found.full_tier if found else None)
    return _LookedAt(again, seen.keyframes, seen.frames)


async def _embedded(
    pieces: Iterator[DecodedFrames | Chunk], request: AnalysisRequest, triton: Embedder
) -> AsyncIterator[Tokens]:
    """Yield what each piece comes to, in order, while the next ones are cut and embedded."""
    running: deque[asyncio.Task[Tokens]] = deque()
    try:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            embedding = (
                embed_chunk(piece, request, triton)
                if isinstance(piece, Chunk)
                else embed_frames(piece, request, triton)
            )
            running.append(asyncio.create_task(embedding))
            if len(running) > IN_FLIGHT:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
            with suppress(asyncio.CancelledError, PixserveError):
                await task


async def embed_chunk(chunk: Chunk, request: AnalysisRequest, triton: Embedder) -> Tokens:
    """Embed one chunk of the requested video; raises what `Embedder.embed_video` does."""
    embeddings = await triton.embed_video(chunk.input, timeout_s=CHUNK_TIMEOUT_S)
    return tokens_of(request.bundle.id, chunk, embeddings)


async def embed_frames(frames: DecodedFrames, request: AnalysisRequest, triton: Embedder) -> Tokens:
    """Embed decoded frames of the requested video; raises what `Embedder.embed_frames` does."""
    return replace(
        no_tokens(request.bundle),
        frames=await triton.embed_frames(frames.pixels, timeout_s=CHUNK_TIMEOUT_S),
        frame_times_s=frames.times_s,
        frame_segments=frames.segments,
        frame_weights=frames.weights,
    )


async def fused_of(triton: Fuser, tokens: Tokens) -> FloatArray:
    """Return the fused embeddings of all segments, (segments, fused); raises what `fuse` does."""
    return np.concatenate([await triton.fuse(part, timeout_s=FUSE_S) for part in to_fuse(tokens)])
