"""Pure: embeddings, gathered to a video's tokens and to the rows of its segments."""

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


def segment_id(video_id: str, start_s: float) -> str:
    """Return a segment's id: its video and where it begins, in milliseconds."""
    return f"{video_id}-{round(start_s * 1000):09d}"


def tokens_of(model_version: str, chunk: Chunk, found: ChunkEmbeddings) -> Tokens:
    """Return the tokens of one chunk, under the video's own segment numbers."""
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


def joined(parts: Sequence[Tokens]) -> Tokens:
    """Return the tokens of a whole video from those of its chunks, in order; at least one."""
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    return Tokens(model_version=parts[0].model_version, **arrays)


def rows_of(
    video_id: str,
    segments: Sequence[Segment],
    texts: Sequence[str],
    tokens: Tokens,
    fused: FloatArray,
) -> tuple[SegmentRow, ...]:
    """Return the rows of a video's segments from its tokens.

    Args:
        video_id: the video.
        segments: of the plan, in order.
        texts: (segments,) what is said in each, "" for nothing.
        tokens: of these segments.
        fused: (segments, fused) unit rows; zeros where there was nothing to fuse.
    """
    seen = (tokens.frames, tokens.frame_segments, tokens.frame_weights)
    heard = (tokens.audio, tokens.audio_segments, tokens.audio_weights)
    said = (tokens.text, tokens.text_segments, tokens.text_weights)
    return tuple(
        SegmentRow(
            segment_id=segment_id(video_id, segment.start_s),
            video_id=video_id,
            index=segment.index,
            scene_index=segment.scene_index,
            start_s=segment.start_s,
            end_s=segment.end_s,
            text=text,
            motion=segment.motion,
            frames=int(np.count_nonzero(tokens.frame_segments == segment.index)),
            visual=segment_mean(*seen, segment.index),
            speech=segment_mean(*said, segment.index),
            sound=segment_mean(*heard, segment.index),
            fused=fused[segment.index] if fused[segment.index].any() else None,
        )
        for segment, text in zip(segments, texts, strict=True)
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
