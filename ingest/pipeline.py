"""The way of a video: a file to its segments and tokens. `analyse` names the stages in order.

Decoding runs in the sandbox and in threads, embedding in Triton, so that while Triton embeds the
chunks in flight the next one is cut. Memory is bounded by those chunks.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from ensembles.arrays import FloatArray
from ensembles.chunk import ChunkEmbeddings, ChunkInput, SegmentTokens
from gateway.errors import PixserveError
from gateway.settings import Settings
from ingest.budget import pays_full_tier
from ingest.chunks import Chunk, cut_chunks
from ingest.from_tokens import to_fuse
from ingest.gathering import Part, SegmentRow, joined, part_of
from ingest.kept import NOTHING_KEPT, FoundScenes, Kept
from ingest.media import NO_KEYFRAMES, Keyframes, MediaInfo, PacketIndex, no_packets
from ingest.missing import Missing, merged, missing_of, rows_of
from ingest.plan import Plan, modality_weights, plan_picture, plan_sound
from ingest.probe import probe, read_packets
from ingest.scenes import Scene, full_scenes, pictured_scenes
from ingest.thumbnails import SIDE_PX, Thumbnails, spacing_s, thumbnails_of
from ingest.tokens import Tokens
from ingest.transcripts.said import NOTHING_SAID, Said, Sidecar, what_is_said
from ingest.transcripts.subtitles import segment_texts
from ingest.webp import PicturesWanted

IN_FLIGHT = 2  # chunks with Triton: one is decoded there while the other is embedded
CHUNK_TIMEOUT_S = 120.0  # for one chunk on a busy machine
FUSE_S = 30.0  # for some segments on a busy machine
EMBED_FROM_PERCENT = 15  # of the way, when the first chunk is cut …
EMBED_TO_PERCENT = 95  # … and when the last one is embedded

Progress = Callable[[str, float], None]  # stage, percent of the whole way

T = TypeVar("T")


class Fuser(Protocol):
    """What fuses tokens: `gateway.triton.Triton`."""

    async def fuse(self, tokens: SegmentTokens, *, timeout_s: float) -> FloatArray:
        """Fuse the tokens of some segments; raises `Unavailable` or `Overloaded`."""
        ...


class Embedder(Fuser, Protocol):
    """What embeds chunks: `gateway.triton.Triton`."""

    async def embed_video(self, chunk: ChunkInput, *, timeout_s: float) -> ChunkEmbeddings:
        """Embed one chunk; raises `Unavailable`, `MediaRefused` or `Overloaded`."""
        ...


@dataclass(frozen=True)
class AnalysisRequest:
    """What is known of a video beside its file."""

    video_id: str
    pix: int
    category: str | None = None
    transcript: bytes | None = None  # a subtitle file
    transcript_name: str | None = None
    language: str | None = None
    model_version: str = ""  # the bundle that embeds, noted in the tokens
    words_path: Path | None = None  # where recognised speech is kept; None: nothing is heard
    kept: Kept = NOTHING_KEPT  # of earlier analyses by this bundle: what it tells is not found anew


@dataclass(frozen=True)
class Counts:
    """How much of a video was looked at."""

    frames: int
    windows: int
    known_frames: int  # of the frames, those that an earlier analysis had looked at
    chunks: int
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
        info = await asyncio.to_thread(probe, path, max_duration_s=settings.max_duration_s)
        packets = await asyncio.to_thread(_packets, path, info)
    with clock.stage("transcript", 4):
        said = await said_in(path, info, request, settings)
    with clock.stage("scenes", 5):
        asked = (path, info, packets, request, settings)
        plan, found, keyframes = await asyncio.to_thread(_plan, *asked)
    spans_s = [(segment.start_s, segment.end_s) for segment in plan.segments]
    texts = segment_texts(said.cues, spans_s, info.duration_s)
    weights = modality_weights(request.category)
    missing = missing_of(plan.segments, texts, weights, request.kept, packets, info.start_s)
    chunks = clock.each(
        "cut", cut_chunks(path, info, packets, missing.segments, missing.texts, weights, settings)
    )
    parts: list[Part] = []
    with clock.stage("embed", EMBED_FROM_PERCENT):
        async for part in _embedded(chunks, request, triton):
            parts.append(part)
            clock.tell(sum(len(part.rows) for part in parts) / len(missing.segments))
    with clock.stage("fuse", EMBED_TO_PERCENT):
        rows, tokens = await _gathered(request, plan, texts, missing, parts, triton)
    known = len(missing.known.frames) if missing.known else 0
    counts = Counts(len(tokens.frames), len(tokens.audio), known, len(parts), len(said.cues))
    thumbnails = thumbnails_of(keyframes, plan.segments)
    return Analysis(info, plan.scenes, found, rows, tokens, thumbnails, counts, clock.stage_s, said)


# ---- stages -------------------------------------------------------------------------------------


def _packets(path: Path, info: MediaInfo) -> PacketIndex:
    return read_packets(path, info) if info.video else no_packets()


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


def _plan(
    path: Path, info: MediaInfo, packets: PacketIndex, request: AnalysisRequest, settings: Settings
) -> tuple[Plan, FoundScenes, Keyframes]:
    """Find the scenes in the tier that PIX pays for, and choose what is looked at."""
    pix = request.pix
    if info.video is None:
        return plan_sound(info.duration_s, pix, settings), FoundScenes(), NO_KEYFRAMES
    found, keyframes = request.kept.scenes, request.kept.keyframes
    if found is None or not keyframes.times_s:
        wanted = PicturesWanted(SIDE_PX, spacing_s(info.duration_s, settings.segment_s))
        scenes, keyframes = pictured_scenes(path, info, packets, wanted)
        found = FoundScenes(scenes, found.full_tier if found else None)
    paid = pays_full_tier(info.duration_s, pix, settings)
    if paid and found.full_tier is None:
        found = FoundScenes(found.keyframe_tier, full_scenes(path, info, packets))
    full = found.full_tier or () if paid else ()
    sound = info.audio is not None
    bounds = (info.duration_s, pix, settings)
    plan = plan_picture(found.keyframe_tier, packets, *bounds, sound=sound, full=full)
    return plan, found, keyframes


async def _gathered(
    request: AnalysisRequest,
    plan: Plan,
    texts: Sequence[str],
    missing: Missing,
    parts: Sequence[Part],
    triton: Fuser,
) -> tuple[tuple[SegmentRow, ...], Tokens]:
    """Return the rows and the tokens of all segments: what was found, with what was known."""
    found = joined(request.model_version, parts) if parts else None
    if missing.known is None:
        assert found is not None  # a plan has segments, and all of them were missing
        return tuple(row for part in parts for row in part.rows), found
    tokens = merged(missing.known, found) if found else missing.known
    fused = await fused_of(triton, tokens)
    return rows_of(request.video_id, plan.segments, texts, tokens, fused), tokens


async def _embedded(
    chunks: Iterator[Chunk], request: AnalysisRequest, triton: Embedder
) -> AsyncIterator[Part]:
    """Yield what each chunk comes to, in order, while the next ones are cut and embedded."""
    running: deque[asyncio.Task[Part]] = deque()
    try:
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            running.append(asyncio.create_task(embed_chunk(chunk, request, triton)))
            if len(running) > IN_FLIGHT:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
            with suppress(asyncio.CancelledError, PixserveError):
                await task


async def embed_chunk(chunk: Chunk, request: AnalysisRequest, triton: Embedder) -> Part:
    """Embed one chunk of the requested video; raises what `Embedder.embed_video` does."""
    embeddings = await triton.embed_video(chunk.input, timeout_s=CHUNK_TIMEOUT_S)
    return part_of(request.video_id, request.model_version, chunk, embeddings)


async def fused_of(triton: Fuser, tokens: Tokens) -> FloatArray:
    """Return the fused embeddings of all segments, (segments, fused); raises what `fuse` does."""
    return np.concatenate([await triton.fuse(part, timeout_s=FUSE_S) for part in to_fuse(tokens)])


# ---- progress -----------------------------------------------------------------------------------


@dataclass
class StageClock:
    """Tells progress and measures the stages."""

    progress: Progress
    stage_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, percent: float) -> Iterator[None]:
        """Measure a stage that begins at a percentage of the whole way."""
        self.progress(name, percent)
        begun_s = time.perf_counter()
        yield
        self.stage_s[name] = time.perf_counter() - begun_s

    def each(self, name: str, items: Iterator[T]) -> Iterator[T]:
        """Measure what making some items takes together, within another stage."""
        self.stage_s[name] = 0.0
        while True:
            begun_s = time.perf_counter()
            item = next(items, None)
            self.stage_s[name] += time.perf_counter() - begun_s
            if item is None:
                return
            yield item

    def tell(self, share: float) -> None:
        """Tell how far the embedding is: 0…1."""
        span = EMBED_TO_PERCENT - EMBED_FROM_PERCENT
        self.progress("embed", EMBED_FROM_PERCENT + share * span)
