"""The way of a video: a file to its segments and tokens. `analyse` names the stages in order.

Decoding runs in the sandbox and in threads, embedding in Triton, so that while Triton embeds the
chunks in flight the next one is cut. Memory is bounded by those chunks.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from ensembles.chunk import ChunkEmbeddings, ChunkInput
from gateway.errors import PixserveError
from gateway.settings import Settings
from ingest.budget import pays_full_tier
from ingest.chunks import Chunk, cut_chunks
from ingest.gathering import Part, SegmentRow, joined, part_of
from ingest.media import NO_KEYFRAMES, Keyframes, MediaInfo, PacketIndex, no_packets
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
EMBED_FROM_PERCENT = 15  # of the way, when the first chunk is cut …
EMBED_TO_PERCENT = 95  # … and when the last one is embedded

Progress = Callable[[str, float], None]  # stage, percent of the whole way

T = TypeVar("T")


class Embedder(Protocol):
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


@dataclass(frozen=True)
class Counts:
    """How much of a video was looked at."""

    frames: int
    windows: int
    chunks: int
    cues: int


@dataclass(frozen=True)
class Analysis:
    """All that was found in a video."""

    info: MediaInfo
    scenes: tuple[Scene, ...]
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
        plan, keyframes = await asyncio.to_thread(_plan, path, info, packets, request.pix, settings)
    spans_s = [(segment.start_s, segment.end_s) for segment in plan.segments]
    texts = segment_texts(said.cues, spans_s, info.duration_s)
    weights = modality_weights(request.category)
    chunks = clock.each(
        "cut", cut_chunks(path, info, packets, plan.segments, texts, weights, settings)
    )
    parts: list[Part] = []
    with clock.stage("embed", EMBED_FROM_PERCENT):
        async for part in _embedded(chunks, request, triton):
            parts.append(part)
            clock.tell(sum(len(part.rows) for part in parts) / len(plan.segments))
    rows = tuple(row for part in parts for row in part.rows)
    tokens = joined(request.model_version, parts)
    counts = Counts(len(tokens.frames), len(tokens.audio), len(parts), len(said.cues))
    thumbnails = thumbnails_of(keyframes, plan.segments)
    return Analysis(info, plan.scenes, rows, tokens, thumbnails, counts, clock.stage_s, said)


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
    path: Path, info: MediaInfo, packets: PacketIndex, pix: int, settings: Settings
) -> tuple[Plan, Keyframes]:
    """Find the scenes in the tier that PIX pays for, and choose what is looked at."""
    if info.video is None:
        return plan_sound(info.duration_s, pix, settings), NO_KEYFRAMES
    wanted = PicturesWanted(SIDE_PX, spacing_s(info.duration_s, settings.segment_s))
    scenes, keyframes = pictured_scenes(path, info, packets, wanted)
    paid = pays_full_tier(info.duration_s, pix, settings)
    full = full_scenes(path, info, packets) if paid else ()
    sound = info.audio is not None
    plan = plan_picture(scenes, packets, info.duration_s, pix, settings, sound=sound, full=full)
    return plan, keyframes


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
