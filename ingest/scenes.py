"""Finds a video's scenes, in two tiers.

**keyframes**, the default: encoders put keyframes at cuts, so only keyframes are decoded, at
thumbnail size. Where two keyframes look different, the cut is at the second one if it came before
its regular turn; else at the packets between them that are far larger than their neighbours (a
picture that nothing predicts); and where that leaves doubt, the stretch is decoded to place it,
the most different stretches first and within a share of the video.

**full**, which PIX pays for: a look at the picture five times a second, a cut where the Hamming
distance of the 64-bit perceptual hashes is over 10 and
the change stands out from the movement around it, and
a soft cut where the picture changes within a second and sound sets in at the same time.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np

from ensembles.arrays import Float64Array, FloatArray, UInt8Array
from ingest.looks import Between, KeyframesWanted, SamplesWanted
from ingest.media import Int64Array, MediaInfo, PacketIndex
from ingest.probe import PROBE_LIMITS, file_limits
from ingest.sandbox import Limits, Reply, run_limited

HASH_CUT = 10  # bits of 64: more is another picture
HASH_STRONG = 20  # bits: so different that a cut is looked for even without another sign
COLOUR_CUT = 0.4  # share of the pixels whose colour changed
MIN_SCENE_S = 0.5  # cuts closer than this are one
KEYFRAME_SPACING_S = 0.5  # keyframes closer than this are not all looked at
OFF_GRID = 0.9  # a keyframe that comes before this share of the longest distance is early
USUAL_DISTANCES = (250, 240, 161, 160, 128)  # packets: defaults of x264, SVT-AV1, libvpx
REGULAR_SHARE = 0.4  # of the distances are regular where keyframes have a regular turn
SPIKE_RATIO = 2.5  # size of a packet over the large ones around it
SPIKE_KEYFRAME_SHARE = 0.3  # and over this share of a keyframe's size
SPIKE_NEIGHBOURS = 25  # packets to each side
LOCAL_S = 20.0  # of a video decoded at most to place cuts …
LOCAL_SHARE = 0.1  # … or this share of it, whichever is more
LONG_TAIL = 260  # packets after the last keyframe: more than encoders usually leave
MOTION_SIZE_FULL = 0.3  # size of predicted packets over keyframes at which motion is 1

SAMPLES_PER_S = 5.0
SOFT_STEPS = 5  # samples over which a soft cut changes the picture
SOFT_ONSET_S = 0.5  # between a soft cut and the sound that sets in
NEIGHBOUR_STEPS = 5  # looks to each side that tell movement from a cut
OUTSTANDING = 3.0  # a change over the usual one around it
CHANGE_FLOOR = 0.02  # mean change of brightness under which nothing is a cut
RECOLOUR_FLOOR = 0.25  # share of the pixels
MOTION_CHANGE_FULL = 0.1  # mean change of brightness between samples at which motion is 1
FULL_CPU_SHARE = 2.0  # seconds of processor time a second of video, at most


@dataclass(frozen=True)
class Scene:
    """One shot of a video; scenes follow each other without a gap."""

    start_s: float
    end_s: float
    motion: float  # 0 still … 1 everything moves


@dataclass(frozen=True)
class Looks:
    """What frames look like, in presentation order."""

    ticks: Int64Array  # (n,)
    times_s: Float64Array  # (n,)
    hashes: UInt8Array  # (n, 64) bits
    colours: FloatArray  # (n, 64) shares
    changes: FloatArray  # (n,) mean change of brightness since the look before, 0…1

    def __len__(self) -> int:
        return len(self.ticks)

    def hamming(self, apart: int = 1) -> Int64Array:
        """The bits in which each look differs from the one so many before it, (n - apart,)."""
        differ = self.hashes[apart:] != self.hashes[:-apart]
        return np.asarray(differ.sum(axis=1), np.int64)

    def recoloured(self, apart: int = 1) -> Float64Array:
        """The share of pixels whose colour changed since the look so many before, (n - apart,)."""
        colours = self.colours.astype(np.float64)
        return np.asarray(np.abs(colours[apart:] - colours[:-apart]).sum(axis=1) / 2)


def keyframe_scenes(path: Path, info: MediaInfo, packets: PacketIndex) -> tuple[Scene, ...]:
    """Find the scenes by keyframes and packet sizes: the default tier.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be decoded within its limits.
    """
    wanted = KeyframesWanted(tuple(_spaced_keyframes(packets).tolist()))
    limits = file_limits(path, PROBE_LIMITS)
    reply = run_limited("keyframe_looks", path, wanted, limits)
    looks = _looks(reply, packets, info)
    cuts, doubts = place_cuts(looks, packets)
    stretches = _within_budget(doubts, packets, max(LOCAL_S, LOCAL_SHARE * info.duration_s))
    for stretch in stretches:
        reply = run_limited("looks_between", path, Between((stretch,)), limits)
        cuts.extend(sudden_changes(_looks(reply, packets, info)))
    return scenes_of(cuts, info.duration_s, lambda a, b: _packet_motion(packets, a, b))


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


# ---- pure: the keyframe tier --------------------------------------------------------------------


@dataclass(frozen=True)
class Doubt:
    """A change between two keyframes whose place nothing tells."""

    first: int  # the keyframes' ticks
    last: int
    strength: int  # bits that differ


def place_cuts(looks: Looks, packets: PacketIndex) -> tuple[list[float], list[Doubt]]:
    """Place the cuts between keyframes that look different, from positions and sizes of packets.

    Returns:
        The times of the cuts in seconds, unsorted, and the changes that nothing places.
    """
    cuts: list[float] = []
    doubts: list[Doubt] = []
    if len(looks) == 0:
        return cuts, doubts
    bits, recoloured = looks.hamming(), looks.recoloured()
    early = early_keyframes(packets)
    for i in np.flatnonzero((bits > HASH_CUT) | (recoloured > COLOUR_CUT)):
        first, last = int(looks.ticks[i]), int(looks.ticks[i + 1])
        placed = spikes(packets, first, last)
        if last in early:
            placed.append(float(looks.times_s[i + 1]))
        if not placed and (bits[i] > HASH_STRONG or recoloured[i] > COLOUR_CUT):
            doubts.append(Doubt(first, last, int(bits[i])))
        cuts.extend(placed)
    # No keyframe follows the last one to compare with: sizes alone decide, with a look where much
    # follows.
    first, last = int(looks.ticks[-1]), int(packets.ticks.max())
    cuts.extend(spikes(packets, first, last + 1))
    if np.count_nonzero(packets.ticks > first) > LONG_TAIL:
        doubts.append(Doubt(first, last, HASH_STRONG))
    return cuts, doubts


def early_keyframes(packets: PacketIndex) -> set[int]:
    """Return the ticks of the keyframes that an encoder set before their regular turn."""
    positions = np.flatnonzero(packets.keyframes)
    distances = np.diff(positions)
    regular = regular_distance(distances, packets)
    early = distances < (OFF_GRID * regular if regular else np.inf)
    return set(packets.ticks[positions[1:][early]].tolist())


def regular_distance(distances: Int64Array, packets: PacketIndex) -> int | None:
    """Return the packets between keyframes where nothing else asks for one; None if never seen.

    It is the longest distance, if many are as long, or encoders are usually set to it.
    """
    if not distances.size:
        return None
    longest = int(distances.max())
    frames_per_s = round(1 / max(float(np.median(np.diff(packets.shown_s))), packets.tick_s))
    repeated = distances.size > 1 and np.mean(distances >= OFF_GRID * longest) >= REGULAR_SHARE
    usual = longest in USUAL_DISTANCES or longest % max(1, frames_per_s) == 0
    return longest if repeated or usual else None


def spikes(packets: PacketIndex, first: int, last: int) -> list[float]:
    """Return when packets between two ticks are shown that are far larger than those around."""
    inside = (packets.ticks > first) & (packets.ticks < last) & ~packets.keyframes
    floor = SPIKE_KEYFRAME_SHARE * float(np.median(packets.sizes[packets.keyframes]))
    found = []
    for i in np.flatnonzero(inside & (packets.sizes > floor)):
        low, high = max(0, i - SPIKE_NEIGHBOURS), i + SPIKE_NEIGHBOURS + 1
        around = np.delete(packets.sizes[low:high], i - low)
        around = around[~np.delete(packets.keyframes[low:high], i - low)]
        # The second largest around, so that one other cut nearby hides nothing.
        if around.size > 1 and packets.sizes[i] > SPIKE_RATIO * np.partition(around, -2)[-2]:
            found.append(float(packets.times_s[i]))
    return found


def _spaced_keyframes(packets: PacketIndex) -> Int64Array:
    """Return the ticks of the keyframes, ascending, none too close to the one before."""
    ticks = np.sort(packets.ticks[packets.keyframes])
    slots = (ticks - ticks[0]) * packets.tick_s // KEYFRAME_SPACING_S
    _, first_of_slot = np.unique(slots, return_index=True)
    return cast(Int64Array, ticks[first_of_slot])


def _within_budget(
    doubts: Iterable[Doubt], packets: PacketIndex, budget_s: float
) -> list[tuple[int, int]]:
    """Return the stretches to decode: the most different first, as many as the budget allows."""
    chosen = []
    for doubt in sorted(doubts, key=lambda doubt: -doubt.strength):
        budget_s -= (doubt.last - doubt.first) * packets.tick_s
        if budget_s < 0:
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


# ---- pure: the full tier ------------------------------------------------------------------------


def sudden_changes(looks: Looks) -> list[float]:
    """Return the times of looks that are another picture than the one before.

    Movement turns bits of the hash as well, so the brightness or the colours must also change by
    far more than they do between the looks around.
    """
    if len(looks) < 2:
        return []
    brightness, colours = looks.changes[1:].astype(np.float64), looks.recoloured()
    found = []
    for i in np.flatnonzero(looks.hamming() > HASH_CUT):
        if _stands_out(brightness, i, CHANGE_FLOOR) or _stands_out(colours, i, RECOLOUR_FLOOR):
            found.append(float(looks.times_s[i + 1]))
    return found


def _stands_out(values: Float64Array, i: int, floor: float) -> bool:
    """Say whether a value is over a floor and far over those around it."""
    low = max(0, i - NEIGHBOUR_STEPS)
    around = np.delete(values[low : i + NEIGHBOUR_STEPS + 1], i - low)
    usual = float(np.median(around)) if around.size else 0.0
    return bool(values[i] > max(floor, OUTSTANDING * usual))


def soft_cuts(looks: Looks, onsets_s: Float64Array) -> list[float]:
    """Return the times of gradual changes to another picture at which sound sets in.

    The picture must differ strongly over about a second, more than at any time close by, without
    a sudden change within it.
    """
    if len(looks) <= SOFT_STEPS or not onsets_s.size:
        return []
    sudden = np.isin(looks.times_s, sudden_changes(looks))
    bits, recoloured = looks.hamming(SOFT_STEPS), looks.recoloured(SOFT_STEPS)
    found = []
    for i in np.flatnonzero((bits > HASH_STRONG) & (recoloured > COLOUR_CUT)):
        steps = slice(i + 1, i + SOFT_STEPS + 1)
        time_s = float(looks.times_s[i + 1 + int(np.argmax(looks.changes[steps]))])
        most = recoloured[i] == recoloured[max(0, i - SOFT_STEPS) : i + SOFT_STEPS + 1].max()
        heard = np.abs(onsets_s - time_s).min() <= SOFT_ONSET_S
        if most and heard and not sudden[steps].any():
            found.append(time_s)
    return found


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
    ticks, hashes, colours, changes = reply.arrays
    order = np.argsort(ticks, kind="stable")
    return Looks(
        ticks=ticks.astype(np.int64)[order],
        times_s=(ticks.astype(np.float64) * packets.tick_s - info.start_s)[order],
        hashes=np.unpackbits(hashes.astype(np.uint8), axis=1)[order],
        colours=colours.astype(np.float32)[order],
        changes=changes.astype(np.float32)[order],
    )


def _full_limits(path: Path, info: MediaInfo) -> Limits:
    base = file_limits(path, PROBE_LIMITS)
    more_s = FULL_CPU_SHARE * info.duration_s
    return Limits(cpu_s=base.cpu_s + more_s, wall_s=base.wall_s + 4 * more_s)
