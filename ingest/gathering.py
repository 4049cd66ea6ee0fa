"""Pure: the embeddings of a video's chunks, gathered to its segments and its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensembles.arrays import FloatArray, Int32Array
from ensembles.chunk import ChunkEmbeddings
from ingest.chunks import Chunk
from ingest.plan import Segment
from ingest.tokens import ARRAYS, Tokens


@dataclass(frozen=True)
class SegmentRow:
    """One segment as it goes into the index: unit vectors, None where it has no such thing."""

    segment_id: str
    video_id: str
    index: int
    scene_index: int
    start_s: float
    end_s: float
    text: str
    motion: float  # 0…1
    frames: int  # sampled
    visual: FloatArray | None  # (vision,) the mean of its frames
    speech: FloatArray | None  # (sentence,) of its text
    sound: FloatArray | None  # (audio,) the mean of its windows
    fused: FloatArray | None  # (fused,)


@dataclass(frozen=True)
class Part:
    """What one chunk came to; its encoded bytes are gone."""

    rows: tuple[SegmentRow, ...]
    tokens: Tokens


def segment_id(video_id: str, start_s: float) -> str:
    """Return a segment's id: its video and where it begins, in milliseconds."""
    return f"{video_id}-{round(start_s * 1000):09d}"


def part_of(video_id: str, model_version: str, chunk: Chunk, embeddings: ChunkEmbeddings) -> Part:
    """Gather the embeddings of one chunk."""
    rows = _rows(video_id, chunk, embeddings)
    return Part(rows, _tokens(model_version, chunk, embeddings))


def joined(model_version: str, parts: Sequence[Part]) -> Tokens:
    """Return the tokens of a whole video from those of its chunks, in order."""
    arrays = {
        name: np.concatenate([getattr(part.tokens, name) for part in parts]) for name in ARRAYS
    }
    return Tokens(model_version=model_version, **arrays)


def _rows(video_id: str, chunk: Chunk, found: ChunkEmbeddings) -> tuple[SegmentRow, ...]:
    wanted = chunk.input
    rows = []
    for position, segment in enumerate(chunk.segments):
        text = wanted.transcripts[position]
        visual = segment_mean(found.frames, wanted.frame_segments, wanted.frame_weights, position)
        sound = segment_mean(found.audio, wanted.audio_segments, wanted.audio_weights, position)
        speech = found.text[position] if text else None
        vectors = (visual, speech, sound, found.fused[position])
        rows.append(row_of(video_id, segment, text, len(segment.frames), *vectors))
    return tuple(rows)


def row_of(
    video_id: str,
    segment: Segment,
    text: str,
    frames: int,
    visual: FloatArray | None,
    speech: FloatArray | None,
    sound: FloatArray | None,
    fused: FloatArray,
) -> SegmentRow:
    """Return a segment's row; zeros in `fused` say that there was nothing to fuse."""
    return SegmentRow(
        segment_id=segment_id(video_id, segment.start_s),
        video_id=video_id,
        index=segment.index,
        scene_index=segment.scene_index,
        start_s=segment.start_s,
        end_s=segment.end_s,
        text=text,
        motion=segment.motion,
        frames=frames,
        visual=visual,
        speech=speech,
        sound=sound,
        fused=fused if fused.any() else None,
    )


def segment_mean(
    embeddings: FloatArray, owners: Int32Array, weights: FloatArray, position: int
) -> FloatArray | None:
    """Return the unit mean of a segment's rows of weight over 0; None where it has none.

    Args:
        embeddings: (n, width) unit rows.
        owners: (n,) the segment of each row.
        weights: (n,) ≥ 0.
        position: the segment.
    """
    mine = embeddings[(owners == position) & (weights > 0)]  # (n, width)
    if not len(mine):
        return None
    mean = mine.mean(axis=0)
    length = float(np.linalg.norm(mean))
    return np.asarray(mean / length, np.float32) if length > 0 else mine[0]


def _tokens(model_version: str, chunk: Chunk, found: ChunkEmbeddings) -> Tokens:
    """Keep the rows that are there, under the video's own segment numbers."""
    wanted = chunk.input
    numbers = np.array([segment.index for segment in chunk.segments], np.int32)
    frames = wanted.frame_weights > 0
    audio = wanted.audio_weights > 0
    said = wanted.transcript_weights > 0
    return Tokens(
        model_version=model_version,
        frames=found.frames[frames],
        frame_times_s=chunk.frame_times_s[frames[: len(chunk.frame_times_s)]],
        frame_segments=numbers[wanted.frame_segments[frames]],
        frame_weights=wanted.frame_weights[frames],
        audio=found.audio[audio],
        audio_times_s=chunk.window_times_s[audio[: len(chunk.window_times_s)]],
        audio_segments=numbers[wanted.audio_segments[audio]],
        audio_weights=wanted.audio_weights[audio],
        text=found.text[said],
        text_segments=numbers[said],
        text_weights=wanted.transcript_weights[said],
        segment_starts_s=np.array([segment.start_s for segment in chunk.segments], np.float64),
        segment_ends_s=np.array([segment.end_s for segment in chunk.segments], np.float64),
    )
