"""Cuts a video into the chunks that Triton decodes: only the packets needed, never re-encoded.

A chunk is a Matroska file in memory with whole consecutive segments. For each sampled frame it
holds the packets from the keyframe before up to that frame; for each window of sound the packets
that sound in it, and a little before, to fill the decoder's overlap. Its clock is the file's own
less `origin_s`. Chunks come one by one, so no more than one is in memory here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensembles.arrays import Float64Array, FloatArray, Int32Array
from ensembles.chunk import ChunkInput
from ensembles.contracts import (
    ABSENT,
    AUDIO_WINDOW_S,
    MAX_CHUNK_AUDIO_WINDOWS,
    MAX_CHUNK_BYTES,
    MAX_CHUNK_FRAMES,
    MAX_CHUNK_SEGMENTS,
)
from gateway.errors import MediaLimitExceeded
from gateway.settings import Settings
from ingest.media import MediaInfo, PacketIndex, decoding_runs
from ingest.plan import ModalityWeights, Segment
from ingest.probe import PROBE_LIMITS, file_limits
from ingest.remux import Cut
from ingest.sandbox import run_limited
from ingest.sounds import AUDIO_PREROLL_S

EMPTY_CHUNK = b"\0"  # where there is nothing to decode: Triton refuses tensors without elements
OVERHEAD_BYTES = 1024**2  # of Matroska's own structure, at most


@dataclass(frozen=True)
class Chunk:
    """What goes to Triton, and what its rows mean."""

    input: ChunkInput
    segments: tuple[Segment, ...]  # as they were cut: some may have fewer frames than planned
    frame_times_s: Float64Array  # (frames,) on the player's clock; empty where there is none
    window_times_s: Float64Array  # (windows,)


@dataclass(frozen=True)
class Sizes:
    """Pure: how many bytes of a file frames and sound need."""

    packets: PacketIndex
    sound_bytes_per_s: float

    @staticmethod
    def of(info: MediaInfo, packets: PacketIndex) -> "Sizes":
        """Take all that is not picture for sound, which is never too little."""
        rest = max(0, info.size_bytes - int(packets.sizes.sum(dtype=np.int64)))
        return Sizes(packets, rest / max(info.duration_s, AUDIO_WINDOW_S) if info.audio else 0.0)

    def of_segments(self, segments: Sequence[Segment]) -> int:
        """Return the bytes of a chunk of these segments, a little more rather than less."""
        ticks = sorted(tick for segment in segments for tick in segment.frames)
        runs = runs_of(self.packets, ticks)
        picture = sum(int(self.packets.sizes[first : last + 1].sum()) for first, last in runs)
        windows = sum(len(segment.windows_s) for segment in segments)
        sound = windows * (AUDIO_WINDOW_S + 2 * AUDIO_PREROLL_S) * self.sound_bytes_per_s
        return picture + int(sound) + OVERHEAD_BYTES


def cut_chunks(
    path: Path,
    info: MediaInfo,
    packets: PacketIndex,
    segments: Sequence[Segment],
    texts: Sequence[str],
    weights: ModalityWeights,
    settings: Settings,
) -> Iterator[Chunk]:
    """Cut a file into chunks of whole consecutive segments.

    Args:
        path: the file.
        info: what it is.
        packets: of its picture; empty where it has none.
        segments: what of it is looked at, in order.
        texts: (segments,) what is said in each, "" for nothing.
        weights: of the modalities' tokens.
        settings: the frames of one chunk.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be read within its limits.
    """
    sizes = Sizes.of(info, packets)
    for group in pack(segments, sizes, settings):
        said = [texts[segment.index] for segment in group]
        yield _cut(path, info, packets, group, said, weights)


# ---- pure: which packets, which segments --------------------------------------------------------


def runs_of(packets: PacketIndex, ticks: Sequence[int]) -> list[tuple[int, int]]:
    """Return the stretches of packets that the frames at these times need: `decoding_runs`."""
    wanted = [packets.position_of[tick] for tick in ticks]
    return decoding_runs(packets.ticks, packets.keyframes, wanted)


def pack(
    segments: Sequence[Segment], sizes: Sizes, settings: Settings
) -> Iterator[tuple[Segment, ...]]:
    """Group consecutive segments into chunks that keep every limit.

    A segment that alone is over MAX_CHUNK_BYTES loses frames until it fits.
    """
    group: tuple[Segment, ...] = ()
    for planned in segments:
        segment = _fitted(planned, sizes)
        if group and not fits((*group, segment), sizes, settings):
            yield group
            group = ()
        group = (*group, segment)
    if group:
        yield group


def fits(segments: Sequence[Segment], sizes: Sizes, settings: Settings) -> bool:
    """Say whether segments keep the limits of one chunk together."""
    return (
        len(segments) <= MAX_CHUNK_SEGMENTS
        and sum(len(s.frames) for s in segments) <= min(settings.max_chunk_frames, MAX_CHUNK_FRAMES)
        and sum(len(s.windows_s) for s in segments) <= MAX_CHUNK_AUDIO_WINDOWS
        and sizes.of_segments(segments) <= MAX_CHUNK_BYTES
    )


def _fitted(segment: Segment, sizes: Sizes) -> Segment:
    """Take frames, then windows, from a segment that is too large for a chunk of its own."""
    while sizes.of_segments([segment]) > MAX_CHUNK_BYTES and (segment.frames or segment.windows_s):
        segment = lighter(segment)
    return segment


def lighter(segment: Segment) -> Segment:
    """Return the segment with half its frames; without frames, with half its windows."""
    if segment.frames:
        return replace(segment, frames=segment.frames[1::2])
    return replace(segment, windows_s=segment.windows_s[1::2])


# ---- one chunk ----------------------------------------------------------------------------------


def _cut(
    path: Path,
    info: MediaInfo,
    packets: PacketIndex,
    group: tuple[Segment, ...],
    texts: Sequence[str],
    weights: ModalityWeights,
) -> Chunk:
    """Cut one chunk; where it proves too large after all, its segments are made lighter."""
    cut = cut_of(group, packets, info.start_s)
    if not (cut.runs or cut.windows_s):
        absent = np.full(0, ABSENT, np.int32)
        return _chunk(EMPTY_CHUNK, 0.0, absent, group, packets, info, texts, weights)
    try:
        reply = run_limited("cut_chunk", path, cut, file_limits(path, PROBE_LIMITS))
    except MediaLimitExceeded as error:
        if error.reason != "chunk_bytes":
            raise
        return _cut(path, info, packets, tuple(map(lighter, group)), texts, weights)
    data, indices = reply.arrays
    origin_s = reply.value_as(float)
    found = indices.astype(np.int32)
    return _chunk(data.tobytes(), origin_s, found, group, packets, info, texts, weights)


def cut_of(group: Sequence[Segment], packets: PacketIndex, start_s: float) -> Cut:
    """Say which packets a group of segments needs; `start_s` is the file's clock at 0."""
    ticks = sorted(tick for segment in group for tick in segment.frames)
    runs = runs_of(packets, ticks)
    windows_s = [at_s + start_s for segment in group for at_s in segment.windows_s]
    begins_s = [float(packets.ticks[first]) * packets.tick_s for first, _ in runs[:1]]
    begins_s.extend(at_s - AUDIO_PREROLL_S for at_s in windows_s[:1])
    return Cut(
        runs=tuple((int(packets.ticks[a]), int(packets.ticks[b])) for a, b in runs),
        frames=tuple(ticks),
        windows_s=tuple(windows_s),
        begin_s=min(begins_s, default=0.0),
    )


def _chunk(
    data: bytes,
    origin_s: float,
    indices: Int32Array,
    group: tuple[Segment, ...],
    packets: PacketIndex,
    info: MediaInfo,
    texts: Sequence[str],
    weights: ModalityWeights,
) -> Chunk:
    """Name the rows of a chunk; a modality without any gets one row that is ABSENT."""
    ticks = [tick for segment in group for tick in segment.frames]
    windows_s = np.array([at_s for s in group for at_s in s.windows_s], np.float64)
    frame_segments = _owners([len(segment.frames) for segment in group])
    window_segments = _owners([len(segment.windows_s) for segment in group])
    shares = np.array([segment.weight for segment in group], np.float32)
    frame_weights = shares[frame_segments] * np.float32(weights.frames)
    frame_weights[indices == ABSENT] = 0.0
    said = np.array([bool(text) for text in texts], np.float32)
    starts_s = windows_s + (info.start_s - origin_s)
    return Chunk(
        input=ChunkInput(
            data=data,
            frame_indices=indices if ticks else np.array([ABSENT], np.int32),
            frame_segments=frame_segments if ticks else np.zeros(1, np.int32),
            frame_weights=frame_weights if ticks else np.zeros(1, np.float32),
            audio_starts_s=starts_s if windows_s.size else np.array([ABSENT], np.float64),
            audio_segments=window_segments if windows_s.size else np.zeros(1, np.int32),
            audio_weights=_sound_weights(shares, window_segments, weights),
            transcripts=tuple(texts),
            transcript_weights=said * shares * np.float32(weights.text),
        ),
        segments=group,
        frame_times_s=np.array(ticks, np.float64) * packets.tick_s - info.start_s,
        window_times_s=windows_s,
    )


def _owners(counts: Sequence[int]) -> Int32Array:
    """Return the segment of each row, given how many rows each segment has."""
    return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def _sound_weights(shares: FloatArray, owners: Int32Array, weights: ModalityWeights) -> FloatArray:
    if not owners.size:
        return np.zeros(1, np.float32)
    return shares[owners] * np.float32(weights.sound)
