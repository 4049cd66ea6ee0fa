"""Finds a video's scenes, in two tiers.

**keyframes**, the default: encoders put keyframes at cuts, so only keyframes are decoded, at
thumbnail size. Where two keyframes look different, the cut is at the second one if it came before
its regular turn; else at the packets between them that are far larger than their neighbours (a
picture that nothing predicts); and where that leaves doubt, the stretch is decoded to place it,
within a share of the video: first those in which a packet is a little larger than the others, then,
for a few seconds, the most different ones.

**full**, which PIX pays for: a look at the picture five times a second, a cut where the Hamming
distance of the 64-bit perceptual hashes is over 10 and the change stands out from the movement
around it, and a soft cut where the picture changes within a second and sound sets in.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np

from ingest.cuts import Doubt, Looks, place_cuts, soft_cuts, sudden_changes
from ingest.looks import Between, KeyframesWanted, SamplesWanted
from ingest.media import NO_KEYFRAMES, Int64Array, Keyframes, MediaInfo, PacketIndex
from ingest.probe import PROBE_LIMITS, file_limits
from ingest.replies import Reply
from ingest.sandbox import Limits, run_limited
from ingest.webp import PicturesWanted

MIN_SCENE_S = 0.5  # cuts closer than this are one
KEYFRAME_SPACING_S = 0.5  # keyframes closer than this are not all looked at
LOCAL_S = 20.0  # of a video decoded at most to place cuts …
LOCAL_SHARE = 0.1  # … or this share of it, whichever is more
UNHINTED_S = 10.0  # of that at most where no packet's size speaks for a cut
MOTION_SIZE_FULL = 0.3  # size of predicted packets over keyframes at which motion is 1

SAMPLES_PER_S = 5.0
MOTION_CHANGE_FULL = 0.1  # mean change of brightness between samples at which motion is 1
LOOK_ARRAYS = 4  # of a reply; those of pictures come after them
FULL_CPU_SHARE = 2.0  # seconds of processor time a second of video, at most


@dataclass(frozen=True)
class Scene:
    """One shot of a video; scenes follow each other without a gap."""

    start_s: float
    end_s: float
    motion: float  # 0 still … 1 everything moves


def keyframe_scenes(path: Path, info: MediaInfo, packets: PacketIndex) -> tuple[Scene, ...]:
    """Find the scenes by keyframes and packet sizes: the default tier.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be decoded within its limits.
    """
    return pictured_scenes(path, info, packets, None)[0]


def pictured_scenes(
    path: Path, info: MediaInfo, packets: PacketIndex, pictures: PicturesWanted | None
) -> tuple[tuple[Scene, ...], Keyframes]:
    """Find the scenes as `keyframe_scenes` does, and take pictures of keyframes on the way.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be decoded within its limits.
    """
    wanted = KeyframesWanted(tuple(_spaced_keyframes(packets).tolist()), pictures)
    limits = file_limits(path, PROBE_LIMITS)
    reply = run_limited("keyframe_looks", path, wanted, limits)
    keyframes = _pictures(reply, packets, info) if pictures else NO_KEYFRAMES
    looks = _looks(reply, packets, info)
    cuts, doubts = place_cuts(looks, packets)
    stretches = _within_budget(doubts, packets, max(LOCAL_S, LOCAL_SHARE * info.duration_s))
    for stretch in stretches:
        reply = run_limited("looks_between", path, Between((stretch,)), limits)
        cuts.extend(sudden_changes(_looks(reply, packets, info)))
    scenes = scenes_of(cuts, info.duration_s, lambda a, b: _packet_motion(packets, a, b))
    return scenes, keyframes


def full_scenes(path: Path, info: MediaInfo, packets: PacketIndex) -> tuple[Scene, ...]:
    """Find the scenes by decoding everything: the tier that PIX pays for.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be decoded within its limits.
    """
    limits = _full_limits(path, info)
    reply = run_limited("all_looks", path, SamplesWanted(SAMPLES_PER_S), limits)
    looks = _looks(reply, packets, info)
    cuts = [_sharpen(time_s, packets) for time_s in sudden_changes(looks)]
    if info.audio is not None:
        onsets = run_limited("onsets", path, None, limits).arrays[0].astype(np.float64)
        cuts.extend(soft_cuts(looks, onsets - info.start_s))
    return scenes_of(cuts, info.duration_s, lambda a, b: _looked_motion(looks, a, b))


# ---- the keyframe tier --------------------------------------------------------------------------


def _spaced_keyframes(packets: PacketIndex) -> Int64Array:
    """Return the ticks of the keyframes, ascending, none too close to the one before."""
    ticks = np.sort(packets.ticks[packets.keyframes])
    slots = (ticks - ticks[0]) * packets.tick_s // KEYFRAME_SPACING_S
    _, first_of_slot = np.unique(slots, return_index=True)
    return cast(Int64Array, ticks[first_of_slot])


def _within_budget(
    doubts: Iterable[Doubt], packets: PacketIndex, budget_s: float
) -> list[tuple[int, int]]:
    """Return the stretches to decode: hinted ones, then the most different, as the budget allows.

    Without a hint it is mostly movement that made two keyframes different, so of those only a few
    seconds are looked at, whatever the budget.
    """
    chosen = []
    unhinted_s = UNHINTED_S
    for doubt in sorted(doubts, key=lambda doubt: (not doubt.is_hinted, -doubt.strength)):
        length_s = (doubt.last - doubt.first) * packets.tick_s
        budget_s -= length_s
        unhinted_s -= 0.0 if doubt.is_hinted else length_s
        if min(budget_s, unhinted_s) < 0:
            break
        chosen.append((doubt.first, doubt.last))
    return chosen


def _packet_motion(packets: PacketIndex, start_s: float, end_s: float) -> float:
    """Return motion as the size of predicted pictures over that of whole ones."""
    inside = (packets.times_s >= start_s) & (packets.times_s < end_s) & ~packets.keyframes
    if not inside.any():
        return 0.0
    whole = float(packets.sizes[packets.keyframes].mean())
    return min(1.0, float(packets.sizes[inside].mean()) / max(whole, 1.0) / MOTION_SIZE_FULL)


# ---- the full tier ------------------------------------------------------------------------------


def _sharpen(time_s: float, packets: PacketIndex) -> float:
    """Move a cut found between two samples to the packet there that most likely makes it."""
    before = (packets.times_s > time_s - 1 / SAMPLES_PER_S) & (packets.times_s <= time_s + 1e-6)
    if not before.any():
        return time_s
    keys = before & packets.keyframes
    candidates = np.flatnonzero(keys if keys.any() else before)
    return float(packets.times_s[candidates[np.argmax(packets.sizes[candidates])]])


def _looked_motion(looks: Looks, start_s: float, end_s: float) -> float:
    """Return motion as the mean change of brightness within a scene."""
    inside = (looks.times_s > start_s + 1 / SAMPLES_PER_S) & (looks.times_s < end_s)
    if not inside.any():
        return 0.0
    return min(1.0, float(looks.changes[inside].mean()) / MOTION_CHANGE_FULL)


# ---- shared -------------------------------------------------------------------------------------


def scenes_of(
    cuts_s: Iterable[float], duration_s: float, motion: Callable[[float, float], float]
) -> tuple[Scene, ...]:
    """Return the scenes between cuts; of cuts closer than MIN_SCENE_S the first one counts."""
    edges = [0.0]
    for cut_s in sorted(cuts_s):
        if cut_s >= edges[-1] + MIN_SCENE_S and cut_s <= duration_s - MIN_SCENE_S:
            edges.append(cut_s)
    edges.append(duration_s)
    return tuple(Scene(a, b, motion(a, b)) for a, b in pairwise(edges))


def _looks(reply: Reply, packets: PacketIndex, info: MediaInfo) -> Looks:
    ticks, hashes, colours, changes = reply.arrays[:LOOK_ARRAYS]
    order = np.argsort(ticks, kind="stable")
    return Looks(
        ticks=ticks.astype(np.int64)[order],
        times_s=(ticks.astype(np.float64) * packets.tick_s - info.start_s)[order],
        hashes=np.unpackbits(hashes.astype(np.uint8), axis=1)[order],
        colours=colours.astype(np.float32)[order],
        changes=changes.astype(np.float32)[order],
    )


def _pictures(reply: Reply, packets: PacketIndex, info: MediaInfo) -> Keyframes:
    ticks, sizes, joined = reply.arrays[LOOK_ARRAYS:]
    width, height = reply.value_as(tuple[int, int])
    data = joined.tobytes()
    ends = np.cumsum(sizes.astype(np.int64)).tolist()
    times_s = ticks.astype(np.float64) * packets.tick_s - info.start_s
    return Keyframes(
        times_s=tuple(times_s.tolist()),
        pictures=tuple(data[a:b] for a, b in pairwise([0, *ends])),
        width=width,
        height=height,
    )


def _full_limits(path: Path, info: MediaInfo) -> Limits:
    base = file_limits(path, PROBE_LIMITS)
    more_s = FULL_CPU_SHARE * info.duration_s
    return Limits(cpu_s=base.cpu_s + more_s, wall_s=base.wall_s + 4 * more_s)
