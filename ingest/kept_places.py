"""Pure: what an analysis looked at, read from its tokens, so that it can be looked at again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ensembles.arrays import FloatArray, Int32Array
from gateway.catalogue.catalogue import SegmentFacts
from ingest.media import PacketIndex
from ingest.plan import ModalityWeights, Segment
from ingest.tokens import Tokens

ANY_WEIGHTS = ModalityWeights(frames=1.0, sound=1.0, text=1.0)  # until `reweighed`


def kept_segments(
    tokens: Tokens, segments: Sequence[SegmentFacts], packets: PacketIndex
) -> tuple[Segment, ...]:
    """Return a video's segments with the frames and windows that were looked at in each.

    Scenes, budget and settings of now have no part in it: the segments stay what they are.

    Args:
        tokens: of these segments, by whichever bundle.
        segments: of the video, in order.
        packets: of its picture; empty where it has none.
    """
    return tuple(
        Segment(
            index=segment.index,
            scene_index=segment.scene_index,
            start_s=segment.start_s,
            end_s=segment.end_s,
            motion=0.0,
            weight=1.0,
            frames=_ticks(tokens, segment.index, packets),
            windows_s=_windows_s(tokens, segment.index),
        )
        for segment in segments
    )


def _ticks(tokens: Tokens, number: int, packets: PacketIndex) -> tuple[int, ...]:
    """Return the ticks of the frames shown when a segment's frames were, ascending."""
    if not len(packets):
        return ()
    times_s = tokens.frame_times_s[tokens.frame_segments == number]
    after = np.searchsorted(packets.shown_s, times_s).clip(1, max(1, len(packets) - 1))
    pairs = np.stack([after - 1, after.clip(0, len(packets) - 1)])  # (2, frames)
    nearest = np.abs(packets.shown_s[pairs] - times_s).argmin(axis=0)
    positions = packets.shown[pairs[nearest, np.arange(len(times_s))]]
    return tuple(sorted(set(packets.ticks[positions].tolist())))


def _windows_s(tokens: Tokens, number: int) -> tuple[float, ...]:
    return tuple(np.sort(tokens.audio_times_s[tokens.audio_segments == number]).tolist())


def reweighed(tokens: Tokens, kept: Tokens) -> Tokens:
    """Return tokens with the weights that those before them had, segment by segment."""
    return replace(
        tokens,
        frame_weights=_weights(tokens.frame_segments, kept.frame_segments, kept.frame_weights),
        audio_weights=_weights(tokens.audio_segments, kept.audio_segments, kept.audio_weights),
        text_weights=_weights(tokens.text_segments, kept.text_segments, kept.text_weights),
    )


def _weights(owners: Int32Array, kept_owners: Int32Array, kept: FloatArray) -> FloatArray:
    """Return the weight of each token; within a segment all tokens of a modality have the same."""
    known = dict(zip(kept_owners.tolist(), kept.tolist(), strict=True))
    return np.array([known.get(owner, 1.0) for owner in owners.tolist()], np.float32)
