"""Pure: a video's segments, and the frames and windows of sound that are looked at in each."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from ensembles.arrays import Float64Array
from ensembles.contracts import AUDIO_WINDOW_S, MAX_CHUNK_AUDIO_WINDOWS, MAX_CHUNK_FRAMES
from gateway.settings import Settings
from ingest.budget import (
    Span,
    allocate,
    base_frames,
    bounded_scenes,
    count_within,
    grid,
    importance,
    join,
    paid_frames,
    part_at,
    range_within,
)
from ingest.exact_frames import affordable, cheapest
from ingest.media import PacketIndex
from ingest.scenes import Scene

MAX_JOINED_CELLS = 3  # cells without a keyframe that share one segment
CATEGORY_WEIGHT = 2.0  # of the tokens of a category's leading modality; the others have 1
SPEECH_CATEGORIES = frozenset({"tutorial", "lecture", "news", "podcast"})
SOUND_CATEGORIES = frozenset({"music"})


@dataclass(frozen=True)
class Segment:
    """The unit of search: a stretch of one scene, or more (`exact_frames`), and what is seen."""

    index: int
    scene_index: int  # that it begins in
    start_s: float
    end_s: float
    motion: float
    weight: float  # its scene's share of PIX over its share of the duration: about 1
    frames: tuple[int, ...]  # ticks of the sampled frames, ascending
    windows_s: tuple[float, ...]  # where windows of sound begin, ascending


@dataclass(frozen=True)
class Plan:
    """What of a video is looked at."""

    scenes: tuple[Scene, ...]
    segments: tuple[Segment, ...]

    @property
    def frames(self) -> int:
        """How many frames are sampled."""
        return sum(len(segment.frames) for segment in self.segments)

    @property
    def windows(self) -> int:
        """How many windows of sound are sampled."""
        return sum(len(segment.windows_s) for segment in self.segments)


@dataclass(frozen=True)
class ModalityWeights:
    """How much the tokens of each modality weigh against each other."""

    frames: float
    sound: float
    text: float


def modality_weights(category: str | None) -> ModalityWeights:
    """Return how a category weighs the tokens: speech leads in a tutorial, sound in music."""
    return ModalityWeights(
        frames=1.0,
        sound=CATEGORY_WEIGHT if category in SOUND_CATEGORIES else 1.0,
        text=CATEGORY_WEIGHT if category in SPEECH_CATEGORIES else 1.0,
    )


def plan_picture(
    found: Sequence[Scene],
    packets: PacketIndex,
    duration_s: float,
    pix: int,
    settings: Settings,
    *,
    sound: bool,
    full: Sequence[Scene] = (),
    looked: Set[int] = frozenset(),
) -> Plan:
    """Plan a video with picture.

    Args:
        found: the scenes of the keyframe tier, which fix the grid.
        packets: the frames that there are.
        duration_s: of the video.
        pix: invested in it.
        settings: rates and bounds.
        sound: whether there is any.
        full: the scenes of the full tier, where PIX pays for them.
        looked: the ticks of keyframes that are decoded in any case, which come first.
    """
    times_s = packets.shown_s
    scenes = bounded_scenes(found, duration_s, settings)
    cells = join(grid(scenes, duration_s, settings), times_s, MAX_JOINED_CELLS)
    coarse = join(cells, packets.keyframe_times_s, MAX_JOINED_CELLS)
    coarse = affordable(coarse, packets, duration_s, settings.segment_s)
    base = base_frames(duration_s, settings)
    first = _first_frames(coarse, scenes, packets, base, settings, looked)
    total = min(settings.max_frames, len(first) + paid_frames(pix, settings))
    parted = part_at(cells, [scene.start_s for scene in full], times_s)
    spans = next((s for s in (parted, cells) if _needed(s, times_s[list(first)]) <= total), coarse)
    frames = _all_frames(spans, scenes, packets, first, total, settings)
    heard = [max(1, len(chosen)) if sound else 0 for chosen in frames]
    windows = [_windows(span, n, duration_s) for span, n in zip(spans, heard, strict=True)]
    shown_ticks = packets.ticks[packets.shown]
    ticks = [tuple(shown_ticks[list(chosen)].tolist()) for chosen in frames]
    return Plan(scenes, _segments(spans, scenes, ticks, windows))


def plan_sound(duration_s: float, pix: int, settings: Settings) -> Plan:
    """Plan a file without picture: one scene, cells by time, windows in place of frames."""
    scenes = (Scene(0.0, duration_s, 0.0),)
    spans = grid(scenes, duration_s, settings)
    total = max(len(spans), base_frames(duration_s, settings)) + paid_frames(pix, settings)
    most = [max(1, int(span.length_s / AUDIO_WINDOW_S)) for span in spans]
    total = min(settings.max_frames, total)
    counts = allocate(total, importance(scenes, spans), [1] * len(spans), most)
    windows = [_windows(span, n, duration_s) for span, n in zip(spans, counts, strict=True)]
    return Plan(scenes, _segments(spans, scenes, [()] * len(spans), windows))


def _first_frames(
    spans: Sequence[Span],
    scenes: Sequence[Scene],
    packets: PacketIndex,
    total: int,
    settings: Settings,
    looked: Set[int],
) -> list[int]:
    """Choose what is looked at without PIX: keyframes; in a span without one a frame close to one.

    Of a span's keyframes those that are decoded in any case, where they are enough.

    Returns:
        Ascending positions in presentation order.
    """
    keys = np.flatnonzero(packets.keyframes[packets.shown])
    key_times_s = packets.shown_s[keys]
    decoded = np.isin(packets.ticks[packets.shown[keys]], list(looked))
    inside = [range_within(key_times_s, span) for span in spans]
    least = [min(1, count_within(packets.shown_s, span)) for span in spans]
    bound = _most_frames(settings)
    most = [min(bound, max(few, len(r))) for few, r in zip(least, inside, strict=True)]
    counts = allocate(max(total, sum(least)), importance(scenes, spans), least, most)
    first: list[int] = []
    for span, here, count in zip(spans, inside, counts, strict=True):
        if here:
            own = keys[here.start : here.stop]
            known = own[decoded[here.start : here.stop]]
            choice = known if len(known) >= count else own
            at = (np.arange(count) + 0.5) * len(choice) / max(1, count)
            first.extend(choice[at.astype(np.int64)].tolist())
        else:
            first.extend(cheapest(packets, span)[:count])
    return first


def _all_frames(
    spans: Sequence[Span],
    scenes: Sequence[Scene],
    packets: PacketIndex,
    first: Sequence[int],
    total: int,
    settings: Settings,
) -> list[tuple[int, ...]]:
    """Add to the first frames, up to a total, exact frames in the largest gaps of each span.

    Returns:
        For each span the ascending positions of its frames in presentation order.
    """
    first_times_s = packets.shown_s[list(first)]
    own = [list(first[r.start : r.stop]) for r in (range_within(first_times_s, s) for s in spans)]
    there = [count_within(packets.shown_s, span) for span in spans]
    least = [max(len(chosen), min(1, n)) for chosen, n in zip(own, there, strict=True)]
    bound = _most_frames(settings)
    most = [max(few, min(bound, n)) for few, n in zip(least, there, strict=True)]
    counts = allocate(total, importance(scenes, spans), least, most)
    chosen = zip(spans, own, counts, strict=True)
    return [tuple(_spread(packets.shown_s, span, frames, n)) for span, frames, n in chosen]


def _spread(times_s: Float64Array, span: Span, chosen: Sequence[int], count: int) -> list[int]:
    """Add frames to those chosen, each the unused one closest to the middle of the largest gap."""
    inside = range_within(times_s, span)
    free = sorted(set(inside) - set(chosen))
    taken = sorted(chosen)
    while len(taken) < count:
        edges = [span.start_s, *times_s[taken].tolist(), span.end_s]
        gap = int(np.argmax(np.diff(edges)))
        middle_s = (edges[gap] + edges[gap + 1]) / 2
        closest = free[int(np.argmin(np.abs(times_s[free] - middle_s)))]
        free.remove(closest)
        taken = sorted([*taken, closest])
    return taken


def _needed(spans: Sequence[Span], first_times_s: Float64Array) -> int:
    """Return the frames with which every span has one, given the first frames."""
    without = sum(1 for span in spans if not count_within(first_times_s, span))
    return len(first_times_s) + without


def _most_frames(settings: Settings) -> int:
    """Return the frames that one segment may have: it must fit into a chunk."""
    return min(settings.max_chunk_frames, MAX_CHUNK_FRAMES)


def _windows(span: Span, count: int, duration_s: float) -> tuple[float, ...]:
    """Return where windows of sound begin: evenly spread, as many as fit, inside the video."""
    fitting = max(1, int(span.length_s / AUDIO_WINDOW_S))
    count = min(count, fitting, MAX_CHUNK_AUDIO_WINDOWS)
    middles_s = span.start_s + (np.arange(count) + 0.5) * span.length_s / max(1, count)
    latest_s = max(0.0, duration_s - AUDIO_WINDOW_S)
    return tuple((middles_s - AUDIO_WINDOW_S / 2).clip(0.0, latest_s).tolist())


def _segments(
    spans: Sequence[Span],
    scenes: Sequence[Scene],
    ticks: Sequence[tuple[int, ...]],
    windows: Sequence[tuple[float, ...]],
) -> tuple[Segment, ...]:
    weights = np.array(importance(scenes, spans)) / [span.length_s for span in spans]
    mean = float(np.average(weights, weights=[span.length_s for span in spans]))
    return tuple(
        Segment(
            index=index,
            scene_index=span.scene_index,
            start_s=span.start_s,
            end_s=span.end_s,
            motion=scenes[span.scene_index].motion,
            weight=float(weights[index]) / mean,
            frames=ticks[index],
            windows_s=windows[index],
        )
        for index, span in enumerate(spans)
    )
