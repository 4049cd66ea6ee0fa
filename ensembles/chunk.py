"""What goes into the ensembles `embed_video` and `fuse`, and what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass

from ensembles.arrays import Float64Array, FloatArray, Int32Array


@dataclass(frozen=True)
class ChunkInput:
    """One encoded chunk of a video and what is wanted of it.

    A chunk without frames has one row `frame_indices == [ABSENT]` of weight 0, and so has one
    without sound: Triton refuses empty batches.
    """

    data: bytes  # Matroska, at most MAX_CHUNK_BYTES
    frame_indices: Int32Array  # (frames,) display order among the chunk's frames, or ABSENT
    frame_segments: Int32Array  # (frames,) index of the segment within the chunk
    frame_weights: FloatArray  # (frames,) share of PIX, ≥ 0; 0: absent
    audio_starts_s: Float64Array  # (windows,) on the chunk's own clock, or ABSENT
    audio_segments: Int32Array  # (windows,)
    audio_weights: FloatArray  # (windows,)
    transcripts: Sequence[str]  # (segments,) "" where nothing is said
    transcript_weights: FloatArray  # (segments,) 0 where nothing is said


@dataclass(frozen=True)
class ChunkEmbeddings:
    """The tokens of a chunk and the fused embedding of each of its segments: unit rows."""

    frames: FloatArray  # (frames, vision)
    audio: FloatArray  # (windows, audio)
    text: FloatArray  # (segments, sentence)
    fused: FloatArray  # (segments, fused)


@dataclass(frozen=True)
class SegmentTokens:
    """The stored tokens of segments, padded to one length a modality; weight 0 is padding."""

    frames: FloatArray  # (segments, n, vision)
    frame_weights: FloatArray  # (segments, n)
    audio: FloatArray  # (segments, m, audio)
    audio_weights: FloatArray  # (segments, m)
    text: FloatArray  # (segments, t, sentence)
    text_weights: FloatArray  # (segments, t)
