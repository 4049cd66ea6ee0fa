"""Pure: what PIX buys, who gets it, and where segments begin; `ingest.plan` puts it together.

**How many frames.** `base rate × duration + PIX × frames per PIX`, at least one a segment, at most
`max_frames`. Without PIX only keyframes are looked at, which cost a fraction of others, so there
are never more than the file has. Every PIX frame is exact, in the middle of the largest gap.

**Who gets them.** Each segment one; the rest by length × (1 + 0.5 × motion) by largest remainder,
so that allotments sum exactly to the budget. What more PIX adds is added to what less PIX had.

**Where segments begin** does not depend on PIX, as far as that can be. Each scene of the keyframe
tier is cut into `round(length / segment_s)` equal cells; this grid is fixed. Without PIX, a cell
in which no keyframe lies joins the one before, up to MAX_JOINED_CELLS. As soon as the PIX frames
pay for one exact frame in every such cell, every cell is a segment; and where PIX pays for the
full tier, cells are also parted at the cuts that only it finds. So the boundaries at more PIX
contain those at less: a segment's id, which is its start, is never lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ensembles.arrays import Float64Array
from gateway.settings import Settings
from ingest.scenes import MIN_SCENE_S, Scene

MOTION_WEIGHT = 0.5  # how far full motion adds to a scene's part of the budget
FULL_TIER_FRAMES_PER_S = 1.0  # frames that PIX pays for at which everything is decoded anyway


@dataclass(frozen=True)
class Span:
    """A stretch of one scene."""

    scene_index: int
    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """Its length in seconds."""
        return self.end_s - self.start_s


# ---- how much -----------------------------------------------------------------------------------


def base_frames(duration_s: float, settings: Settings) -> int:
    """Return the frames of a video without PIX."""
    return min(settings.max_frames, round(settings.base_frames_per_s * duration_s))


def paid_frames(pix: int, settings: Settings) -> int:
    """Return the frames that PIX adds."""
    return min(settings.max_frames, int(settings.frames_per_pix * pix))


def pays_full_tier(duration_s: float, pix: int, settings: Settings) -> bool:
    """Say whether PIX pays for finding scenes by decoding everything."""
    return paid_frames(pix, settings) >= max(1.0, FULL_TIER_FRAMES_PER_S * duration_s)


def pays_transcript(duration_s: float, pix: int, settings: Settings) -> bool:
    """Say whether PIX pays for recognising speech, where that is turned on: all of it or none."""
    return bool(settings.whisper) and pix >= settings.whisper_pix_per_minute * duration_s / 60


def importance(scenes: Sequence[Scene], spans: Sequence[Span]) -> tuple[float, ...]:
    """Return each span's weight in the budget: its length × (1 + 0.5 × its scene's motion)."""
    return tuple(
        span.length_s * (1 + MOTION_WEIGHT * scenes[span.scene_index].motion) for span in spans
    )


def allocate(
    total: int, weights: Sequence[float], least: Sequence[int], most: Sequence[int]
) -> tuple[int, ...]:
    """Share a total out: each its least first, the rest by weight and largest remainder.

    Args:
        total: how many there are, ≥ 0.
        weights: (n,) each > 0. Where the total is short of all the least, the heaviest come first.
        least: (n,) what each gets first.
        most: (n,) each at least its least.

    Returns:
        (n,) counts within these bounds that sum to `total`, or to what `most` allows.
    """
    counts = np.zeros(len(weights), np.int64)
    share = np.asarray(weights, np.float64)
    cap = np.asarray(most, np.int64)
    for i in np.argsort(-share, kind="stable"):
        counts[i] = min(least[i], total - counts.sum())
    left = min(total, int(cap.sum())) - int(counts.sum())
    while left > 0:
        takers = counts < cap
        quotas = np.where(takers, left * share / share[takers].sum(), 0.0)
        filled = takers & (quotas >= cap - counts)
        if not filled.any():
            whole = np.floor(quotas).astype(np.int64)
            by_remainder = np.argsort(whole - quotas, kind="stable")
            counts += whole
            counts[by_remainder[: left - int(whole.sum())]] += 1
            break
        left -= int((cap - counts)[filled].sum())
        counts[filled] = cap[filled]
    return tuple(counts.tolist())


# ---- where segments begin -----------------------------------------------------------------------


def bounded_scenes(
    scenes: Sequence[Scene], duration_s: float, settings: Settings
) -> tuple[Scene, ...]:
    """Join scenes to the one before while that is shorter than `max_frames` allows.

    Returns:
        At most half as many scenes as there may be frames, plus one.
    """
    shortest_s = duration_s / max(1, settings.max_frames // 2)
    kept: list[Scene] = []
    for scene in scenes:
        last = kept[-1] if kept else None
        if last is not None and last.end_s - last.start_s < shortest_s:
            kept[-1] = Scene(last.start_s, scene.end_s, max(last.motion, scene.motion))
        else:
            kept.append(scene)
    return tuple(kept)


def grid(scenes: Sequence[Scene], duration_s: float, settings: Settings) -> tuple[Span, ...]:
    """Cut each scene into equal cells of about `segment_s`, longer where max_frames demands it."""
    length_s = max(settings.segment_s, duration_s / max(1, settings.max_frames // 2))
    cells: list[Span] = []
    for index, scene in enumerate(scenes):
        count = max(1, round((scene.end_s - scene.start_s) / length_s))
        edges = np.linspace(scene.start_s, scene.end_s, count + 1).tolist()
        cells.extend(Span(index, a, b) for a, b in pairwise(edges))
    return tuple(cells)


def part_at(
    cells: Sequence[Span], cuts_s: Sequence[float], times_s: Float64Array
) -> tuple[Span, ...]:
    """Part cells at further cuts where both parts are long enough and hold one of these times."""
    parted: list[Span] = []
    for cell in cells:
        rest = cell
        for cut_s in sorted(cuts_s):
            before = replace(rest, end_s=cut_s)
            after = replace(rest, start_s=cut_s)
            long_enough = min(before.length_s, after.length_s) >= MIN_SCENE_S
            if long_enough and count_within(times_s, before) and count_within(times_s, after):
                parted.append(before)
                rest = after
        parted.append(rest)
    return tuple(parted)


def join(cells: Sequence[Span], times_s: Float64Array, at_most: int) -> tuple[Span, ...]:
    """Join cells of a scene without one of these times to the one before, up to `at_most` cells.

    A scene's first cells, where they hold none, take in the next ones.
    """
    joined: list[Span] = []
    size, holds = 0, False
    for cell in cells:
        here = count_within(times_s, cell) > 0
        same = bool(joined) and joined[-1].scene_index == cell.scene_index
        if same and size < at_most and not (here and holds):
            joined[-1] = replace(joined[-1], end_s=cell.end_s)
            size, holds = size + 1, holds or here
        else:
            joined.append(cell)
            size, holds = 1, here
    return tuple(joined)


def count_within(times_s: Float64Array, span: Span) -> int:
    """Return how many of these ascending times lie in a span."""
    return len(range_within(times_s, span))


def range_within(times_s: Float64Array, span: Span) -> range:
    """Return the positions of the ascending times that lie in a span."""
    low, high = np.searchsorted(times_s, (span.start_s, span.end_s))
    return range(int(low), max(int(low), int(high)))
