"""Pure: what of a plan is not known yet, and how what is found goes together with what is known.

A frame, a window of sound and a text are embedded alike whichever segment they are in, so they are
known by when they are shown or heard, and by their words. Frames that were decoded while cuts were
looked for need only be embedded.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ensembles.arrays import Float64Array, FloatArray, Int32Array, UInt8Array
from ingest.looking import NO_FRAMES, Frames
from ingest.media import PacketIndex
from ingest.plan import ModalityWeights, Segment
from ingest.tokens import ROWS, WIDE, Tokens

MOMENTS_PER_S = 1_000_000  # frames and windows are further apart than one

Key = TypeVar("Key", bound=Hashable)
Wanted = TypeVar("Wanted")


@dataclass(frozen=True)
class AtHand:
    """What of a video is there already."""

    tokens: Tokens  # of earlier analyses by the same bundle
    texts: Sequence[str] = ()  # of the tokens' segments; empty: not known
    frames: Frames = NO_FRAMES  # decoded while cuts were looked for


@dataclass(frozen=True)
class DecodedFrames:
    """Frames of a plan that are decoded already: they need only be embedded."""

    pixels: UInt8Array  # (n, height, width, 3)
    times_s: Float64Array  # (n,) on the player's clock
    segments: Int32Array  # (n,) index of the segment
    weights: FloatArray  # (n,)

    def in_batches(self, most: int) -> Iterator["DecodedFrames"]:
        """Yield so many of them at a time at most."""
        for first in range(0, len(self.pixels), most):
            at = slice(first, first + most)
            yield DecodedFrames(
                self.pixels[at], self.times_s[at], self.segments[at], self.weights[at]
            )


@dataclass(frozen=True)
class Missing:
    """What of a plan must still be looked at."""

    segments: tuple[Segment, ...]  # with what must be decoded alone; others are left out
    texts: tuple[str, ...]  # (segments of the plan,) "" where it is known, or nothing is said
    decoded: DecodedFrames
    known: Tokens  # of the plan's segments


def missing_of(
    segments: Sequence[Segment],
    texts: Sequence[str],
    weights: ModalityWeights,
    at_hand: AtHand,
    packets: PacketIndex,
    start_s: float,
) -> Missing:
    """Tell what of a plan is not there already.

    Args:
        segments: of the plan, in order.
        texts: (segments,) what is said in each, "" for nothing.
        weights: of the modalities' tokens.
        at_hand: what is.
        packets: of the picture.
        start_s: the file's clock at 0.
    """
    tokens = at_hand.tokens
    seen = {_moment(at_s): row for row, at_s in enumerate(tokens.frame_times_s.tolist())}
    heard = {_moment(at_s): row for row, at_s in enumerate(tokens.audio_times_s.tolist())}
    said = _said(at_hand)
    pictured = {tick: row for row, tick in enumerate(at_hand.frames.ticks.tolist())}
    frames, pictures, windows, words = _Rows(), _Rows(), _Rows(), _Rows()
    lacking, unsaid = [], []
    for segment, text in zip(segments, texts, strict=True):
        shown = {_moment(tick * packets.tick_s - start_s): tick for tick in segment.frames}
        unseen = frames.take(segment, shown, seen)
        sounding = {_moment(at_s): at_s for at_s in segment.windows_s}
        spoken = {text: text} if text else {}
        rest = replace(
            segment,
            frames=pictures.take(segment, {tick: tick for tick in unseen}, pictured),
            windows_s=windows.take(segment, sounding, heard),
        )
        unsaid.append("".join(words.take(segment, spoken, said)))
        if rest.frames or rest.windows_s or unsaid[-1]:
            lacking.append(rest)
    decoded = DecodedFrames(
        pixels=at_hand.frames.pixels[pictures.rows],
        times_s=at_hand.frames.ticks[pictures.rows] * packets.tick_s - start_s,
        segments=pictures.segments,
        weights=pictures.weights(weights.frames),
    )
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
    return Missing(tuple(lacking), tuple(unsaid), decoded, known)


def merged(known: Tokens, found: Sequence[Tokens]) -> Tokens:
    """Return the tokens that are known and those that were found, segment by segment, in time."""
    arrays: dict[str, Any] = {}
    for wide in WIDE:
        names = (wide, *ROWS[wide])
        all_of = {n: np.concatenate([getattr(one, n) for one in (known, *found)]) for n in names}
        # The last key counts most: ROWS has times before segments.
        order = np.lexsort([all_of[n] for n in ROWS[wide] if not n.endswith("weights")])
        arrays |= {name: rows[order] for name, rows in all_of.items()}
    return replace(known, **arrays)


def _moment(time_s: float) -> int:
    return round(time_s * MOMENTS_PER_S)


def _said(at_hand: AtHand) -> dict[str, int]:
    """Return the row of each text that is known."""
    if not at_hand.texts:
        return {}
    numbers = at_hand.tokens.text_segments.tolist()
    return {at_hand.texts[number]: row for row, number in enumerate(numbers)}


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
