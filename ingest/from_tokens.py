"""Pure: a video's rows of the index, made from its kept tokens, with nothing decoded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ensembles.arrays import FloatArray, Int32Array
from ensembles.chunk import SegmentTokens
from ensembles.contracts import MAX_CHUNK_SEGMENTS
from ensembles.gather import gather
from gateway.catalogue.analyses import VideoRecord
from gateway.catalogue.catalogue import SegmentFacts
from gateway.errors import ConfigurationError
from gateway.index.rows import IndexRow
from ingest.gathering import segment_mean
from ingest.plan import ModalityWeights
from ingest.tokens import Tokens


@dataclass(frozen=True)
class _Kind:
    """The tokens of one modality."""

    rows: FloatArray  # (n, width)
    segments: Int32Array  # (n,) the segment's number in its video
    weights: FloatArray  # (n,)

    def mean(self, number: int) -> FloatArray | None:
        return segment_mean(self.rows, self.segments, self.weights, number)

    def gathered(self, first: int, count: int) -> tuple[FloatArray, FloatArray]:
        """Return the tokens of consecutive segments, padded to one length, and their weights."""
        mine = (self.segments >= first) & (self.segments < first + count)
        return gather(self.rows[mine], self.segments[mine] - first, self.weights[mine], count)


def check_segments(tokens: Tokens, segments: Sequence[SegmentFacts]) -> None:
    """Refuse tokens of another analysis than the one that the catalogue has.

    Args:
        tokens: of the video.
        segments: of the video, in order.

    Raises:
        ConfigurationError: another number of segments, or others.
    """
    starts_s = np.array([segment.start_s for segment in segments], np.float64)
    if tokens.segment_starts_s.shape != starts_s.shape or not np.allclose(
        tokens.segment_starts_s, starts_s
    ):
        raise ConfigurationError(
            f"the tokens are of {len(tokens.segment_starts_s)} segments, the catalogue has "
            f"{len(starts_s)} or others: analyse the video again"
        )


def check_texts(tokens: Tokens, segments: Sequence[SegmentFacts]) -> None:
    """Refuse tokens of another analysis, or of another transcript.

    Args:
        tokens: of the video.
        segments: of the video, in order.

    Raises:
        ConfigurationError: other segments, or others in which something is said.
    """
    check_segments(tokens, segments)
    spoken = [segment.index for segment in segments if segment.text]
    if sorted(tokens.text_segments.tolist()) != spoken:
        raise ConfigurationError(
            f"the tokens have words for {len(tokens.text_segments)} segments, the catalogue for "
            f"{len(spoken)} or others: analyse the video again"
        )


def with_texts(
    tokens: Tokens, numbers: Sequence[int], text: FloatArray, weights: ModalityWeights
) -> Tokens:
    """Return tokens with other texts than they had.

    Args:
        tokens: of a video.
        numbers: (texts,) of the segments in which something is said, ascending.
        text: (texts, sentence) its embeddings.
        weights: of the modalities' tokens, by which each segment's share of the PIX is known.
    """
    sounds, frames = tokens.audio_weights / weights.sound, tokens.frame_weights / weights.frames
    shares = dict(zip(tokens.audio_segments.tolist(), sounds, strict=True))
    shares |= dict(zip(tokens.frame_segments.tolist(), frames, strict=True))
    mine = [shares.get(number, 1.0) for number in numbers]
    return replace(
        tokens,
        text=text,
        text_segments=np.array(numbers, np.int32),
        text_weights=np.array(mine, np.float32) * np.float32(weights.text),
    )


def to_fuse(tokens: Tokens) -> Iterator[SegmentTokens]:
    """Yield a video's tokens as the ensemble `fuse` takes them, some segments at a time."""
    frames, audio, text = _kinds(tokens)
    for first in range(0, len(tokens.segment_starts_s), MAX_CHUNK_SEGMENTS):
        count = min(MAX_CHUNK_SEGMENTS, len(tokens.segment_starts_s) - first)
        seen, heard, said = (kind.gathered(first, count) for kind in (frames, audio, text))
        yield SegmentTokens(*seen, *heard, *said)


def rows_from_tokens(
    record: VideoRecord, segments: Sequence[SegmentFacts], tokens: Tokens, fused: FloatArray
) -> list[IndexRow]:
    """Return one row of the index a segment.

    Args:
        record: the video.
        segments: of it, in order.
        tokens: of it; half precision on the disk, so vectors differ in the fourth digit.
        fused: (segments, fused) unit rows; zeros where there was nothing to fuse.
    """
    frames, audio, text = _kinds(tokens)
    return [
        IndexRow(
            segment_id=segment.segment_id,
            video_id=record.id,
            creator_id=record.creator_id,
            title=record.title,
            category=record.category,
            language=record.language,
            tags=record.tags,
            duration_s=record.duration_s,
            text=segment.text,
            visual=frames.mean(segment.index),
            speech=text.mean(segment.index),
            sound=audio.mean(segment.index),
            fused=fused[number] if np.any(fused[number]) else None,
        )
        for number, segment in enumerate(segments)
    ]


def _kinds(tokens: Tokens) -> tuple[_Kind, _Kind, _Kind]:
    return (
        _Kind(tokens.frames, tokens.frame_segments, tokens.frame_weights),
        _Kind(tokens.audio, tokens.audio_segments, tokens.audio_weights),
        _Kind(tokens.text, tokens.text_segments, tokens.text_weights),
    )
