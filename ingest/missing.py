"""Pure: what of a plan is not known yet, and how what is found goes together with what is known.

A frame, a window of sound and a text are embedded alike whichever segment they are in, so they are
known by when they are shown or heard, and by their words.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ensembles.arrays import FloatArray, Int32Array
from ingest.gathering import SegmentRow, row_of, segment_mean
from ingest.kept import Kept
from ingest.media import PacketIndex
from ingest.plan import ModalityWeights, Segment
from ingest.tokens import ROWS, WIDE, Tokens

MOMENTS_PER_S = 1_000_000  # frames and windows are further apart than one

Key = TypeVar("Key", bound=Hashable)
Wanted = TypeVar("Wanted")


@dataclass(frozen=True)
class Missing:
    """What of a plan must still be looked at."""

    segments: tuple[Segment, ...]  # with that alone; those that lack nothing are left out
    texts: tuple[str, ...]  # (segments of the plan,) "" where it is known, or nothing is said
    known: Tokens | None  # of the plan's segments: what need not be looked at; None: nothing


def missing_of(
    segments: Sequence[Segment],
    texts: Sequence[str],
    weights: ModalityWeights,
    kept: Kept,
    packets: PacketIndex,
    start_s: float,
) -> Missing:
    """Tell what of a plan is not among the tokens that are kept.

    Args:
        segments: of the plan, in order.
        texts: (segments,) what is said in each, "" for nothing.
        weights: of the modalities' tokens.
        kept: of the video, by the same bundle.
        packets: of its picture.
        start_s: the file's clock at 0.
    """
    tokens = kept.tokens
    if tokens is None:
        return Missing(tuple(segments), tuple(texts), None)
    seen = {_moment(at_s): row for row, at_s in enumerate(tokens.frame_times_s.tolist())}
    heard = {_moment(at_s): row for row, at_s in enumerate(tokens.audio_times_s.tolist())}
    said = _said(kept, tokens)
    frames, windows, words = _Rows(), _Rows(), _Rows()
    lacking, unsaid = [], []
    for segment, text in zip(segments, texts, strict=True):
        shown = {_moment(tick * packets.tick_s - start_s): tick for tick in segment.frames}
        sounding = {_moment(at_s): at_s for at_s in segment.windows_s}
        spoken = {text: text} if text else {}
        rest = replace(
            segment,
            frames=frames.take(segment, shown, seen),
            windows_s=windows.take(segment, sounding, heard),
        )
        unsaid.append("".join(words.take(segment, spoken, said)))
        if rest.frames or rest.windows_s or unsaid[-1]:
            lacking.append(rest)
    known = Tokens(
        model_version=tokens.model_version,
        frames=tokens.frames[frames.rows],
        frame_times_s=tokens.frame_times_s[frames.rows],
        frame_segments=frames.segments,
        frame_weights=frames.weights(weights.frames),
        audio=tokens.audio[windows.rows],
        audio_times_s=tokens.audio_times_s[windows.rows],
        audio_segments=windows.segments,
        audio_weights=windows.weights(weights.sound),
        text=tokens.text[words.rows],
        text_segments=words.segments,
        text_weights=words.weights(weights.text),
        segment_starts_s=np.array([segment.start_s for segment in segments], np.float64),
        segment_ends_s=np.array([segment.end_s for segment in segments], np.float64),
    )
    return Missing(tuple(lacking), tuple(unsaid), known)


def merged(known: Tokens, found: Tokens) -> Tokens:
    """Return the tokens that are known and those that were found, segment by segment, in time."""
    arrays: dict[str, Any] = {}
    for wide in WIDE:
        names = (wide, *ROWS[wide])
        both = {n: np.concatenate([getattr(known, n), getattr(found, n)]) for n in names}
        # The last key counts most: ROWS has times before segments.
        order = np.lexsort([both[n] for n in ROWS[wide] if not n.endswith("weights")])
        arrays |= {name: rows[order] for name, rows in both.items()}
    return replace(known, **arrays)


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
    rows = []
    for segment, text in zip(segments, texts, strict=True):
        number = segment.index
        frames = int(np.count_nonzero(tokens.frame_segments == number))
        visual, speech, sound = (segment_mean(*kind, number) for kind in (seen, said, heard))
        vectors = (visual, speech, sound, fused[number])
        rows.append(row_of(video_id, segment, text, frames, *vectors))
    return tuple(rows)


def _moment(time_s: float) -> int:
    return round(time_s * MOMENTS_PER_S)


def _said(kept: Kept, tokens: Tokens) -> dict[str, int]:
    """Return the row of each text that is known."""
    if not kept.texts:
        return {}
    return {kept.texts[number]: row for row, number in enumerate(tokens.text_segments.tolist())}


class _Rows:
    """The rows of known tokens of one modality, in the order of the plan."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._owners: list[int] = []
        self._shares: list[float] = []

    def take(
        self, segment: Segment, wanted: Mapping[Key, Wanted], known: Mapping[Key, int]
    ) -> tuple[Wanted, ...]:
        """Note the rows that are known of what is wanted; return what is not."""
        rows = [known[key] for key in wanted if key in known]
        self.rows.extend(rows)
        self._owners.extend([segment.index] * len(rows))
        self._shares.extend([segment.weight] * len(rows))
        return tuple(value for key, value in wanted.items() if key not in known)

    @property
    def segments(self) -> Int32Array:
        return np.array(self._owners, np.int32)

    def weights(self, of_modality: float) -> FloatArray:
        return np.array(self._shares, np.float32) * np.float32(of_modality)
