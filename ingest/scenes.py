"""Finds a video's scenes, in two tiers.

**keyframes**, the default: encoders put keyframes at cuts, so one that came before its regular turn
and looks unlike the one before is a cut. Cuts elsewhere make packets larger than their neighbours,
as does much else. Such a packet is decoded alone: with H.264 and MPEG-4 the decoder tells how much
of the picture is taken from others, which at a cut is next to nothing. With other codecs far larger
packets are cuts where the keyframes around look different, and for the rest the stretch from the
keyframe to the packet is decoded, within a small share of the video. So a minute takes about twenty
pictures, of 1,500.

**full**, which PIX pays for: a look at the picture five times a second, a cut where the Hamming
distance of the 64-bit perceptual hashes is over 10 and the change stands out from the movement
around it, and a soft cut where the picture changes within a second and sound sets in.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.cuts import (
    Looks,
    cuts_at_dense_keyframes,
    cuts_at_early_keyframes,
    cuts_at_unpredicted,
    doubtful_changes,
    hints,
    looked_keyframes,
    place_cuts,
    soft_cuts,
    sudden_changes,
)
from ingest.keyframe_looks import MAX_PARTS, KeyframesWanted
from ingest.looking import Frames, Seen, look
from ingest.looks import Between, SamplesWanted
from ingest.media import NO_KEYFRAMES, Int64Array, Keyframes, MediaInfo, PacketIndex
from ingest.pictures import lanes_within
from ingest.probe import PROBE_LIMITS, file_limits
from ingest.sandbox import Limits, run_limited
from ingest.webp import PicturesWanted

MIN_SCENE_S = 0.5  # cuts closer than this are one
KEYFRAME_SPACING_S = 5.0  # of keyframes that are looked at without another reason
HINTS_FIRST = 6  # packets examined at most, whatever the length …
HINTS_PER_S = 0.15  # … and more of a longer video
TELL_MOTION = ("h264", "mpeg4")  # codecs whose decoders tell what is predicted
MAX_FRAME_BYTES = 32 * 1024**2  # of pixels kept for the vision encoder
LOCAL_S = 4.0  # of a video decoded at most to place cuts …
LOCAL_SHARE = 0.02  # … or this share of it, whichever is more
MOTION_SIZE_FULL = 0.3  # size of predicted packets over keyframes at which motion is 1

SAMPLES_PER_S = 5.0
MOTION_CHANGE_FULL = 0.1  # mean change of brightness between samples at which motion is 1
FULL_CPU_SHARE = 2.0  # seconds of processor time a second of video, at most


@dataclass(frozen=True)
class Scene:
    """One shot of a video; scenes follow each other without a gap."""

    start_s: float
    end_s: float
    motion: float  # 0 still … 1 everything moves


@dataclass(frozen=True)
class PicturedScenes:
    """The scenes of the default tier, and what is kept of the pictures decoded for them."""

    scenes: tuple[Scene, ...]
    keyframes: Keyframes
    frames: Frames


def keyframe_scenes(path: Path, info: MediaInfo, packets: PacketIndex) -> tuple[Scene, ...]:
    """Find the scenes by keyframes and packet sizes: the default tier.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be decoded within its limits.
    """
    return pictured_scenes(path, info, packets, None).scenes


def pictured_scenes(
    path: Path,
    info: MediaInfo,
    packets: PacketIndex,
    pictures: PicturesWanted | None,
    frame_px: int = 0,
) -> PicturedScenes:
    """Find the scenes as `keyframe_scenes` does, and keep what is seen on the way.

    Args:
        path: the file.
        info: what it is.
        packets: of its picture.
        pictures: of keyframes that are taken, as thumbnails.
        frame_px: the short side of keyframes that are kept for the vision encoder, of the first
            ones up to MAX_FRAME_BYTES; 0: none are.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be decoded within its limits.
    """
    hinted, looked = _chosen(info, packets)
    ticks = tuple(packets.ticks[looked].tolist())
    tells = _tells_motion(info)
    wanted = KeyframesWanted(
        ticks=ticks,
        hinted=tuple(packets.ticks[hinted].tolist()) if tells else (),
        pictures=pictures,
        most_parts=_parts_at_most(info),
        frames=ticks[: _frames_at_most(info, frame_px)],
        short_side_px=frame_px,
    )
    limits = file_limits(path, PROBE_LIMITS)
    seen = look(path, wanted, limits)
    keyframes = _pictures(seen, packets, info) if pictures else NO_KEYFRAMES
    looks = _looks(seen.looks, packets, info)
    cuts = cuts_at_early_keyframes(looks, packets)
    changed = doubtful_changes(looks, packets)
    doubts: list[tuple[int, int]] = []
    if tells:
        cuts.extend(cuts_at_unpredicted(packets, hinted, seen.predicted))
    elif len(looks):
        placed, doubts = place_cuts(looks, packets, hinted)
        cuts.extend(placed)
    inside, beyond = _by_budget([*changed, *doubts], packets, info.duration_s)
    for stretch in inside:
        reply = run_limited("looks_between", path, Between((stretch,)), limits)
        cuts.extend(sudden_changes(_looks(reply.arrays, packets, info)))
    cuts.extend(cuts_at_dense_keyframes([one for one in beyond if one in changed], packets))
    scenes = scenes_of(cuts, info.duration_s, lambda a, b: _packet_motion(packets, a, b))
    return PicturedScenes(scenes, keyframes, seen.frames)


def looked_ticks(info: MediaInfo, packets: PacketIndex) -> frozenset[int]:
    """Return the ticks of the keyframes that `pictured_scenes` decodes, whether it has or not."""
    return frozenset(packets.ticks[_chosen(info, packets)[1]].tolist())


def full_scenes(path: Path, info: MediaInfo, packets: PacketIndex) -> tuple[Scene, ...]:
    """Find the scenes by decoding everything: the tier that PIX pays for.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be decoded within its limits.
    """
    limits = _full_limits(path, info)
    reply = run_limited("all_looks", path, SamplesWanted(SAMPLES_PER_S), limits)
    looks = _looks(reply.arrays, packets, info)
    cuts = [_sharpen(time_s, packets) for time_s in sudden_changes(looks)]
    if info.audio is not None:
        onsets = run_limited("onsets", path, None, limits).arrays[0].astype(np.float64)
        cuts.extend(soft_cuts(looks, onsets - info.start_s))
    return scenes_of(cuts, info.duration_s, lambda a, b: _looked_motion(looks, a, b))


# ---- the keyframe tier --------------------------------------------------------------------------


def _chosen(info: MediaInfo, packets: PacketIndex) -> tuple[Int64Array, list[int]]:
    """Return the positions of the packets that hint at cuts, and of the keyframes to look at."""
    hinted = hints(packets, HINTS_FIRST + int(HINTS_PER_S * info.duration_s))
    doubts = () if _tells_motion(info) else hinted
    return hinted, looked_keyframes(packets, KEYFRAME_SPACING_S, doubts)


def _tells_motion(info: MediaInfo) -> bool:
    return info.video is not None and info.video.codec in TELL_MOTION


def _frames_at_most(info: MediaInfo, frame_px: int) -> int:
    """Return how many frames are kept, so that they take bounded memory whatever the length."""
    if info.video is None or not frame_px:
        return 0
    longer, shorter = sorted((info.video.width, info.video.height), reverse=True)
    return int(MAX_FRAME_BYTES / (3 * frame_px**2 * longer / max(1, shorter)))


def _parts_at_most(info: MediaInfo) -> int:
    return lanes_within(info.video.width, info.video.height, MAX_PARTS) if info.video else 1


def _by_budget(
    stretches: Sequence[tuple[int, int]], packets: PacketIndex, duration_s: float
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Part the stretches into those that are decoded and those beyond the budget, in order."""
    budget_s = max(LOCAL_S, LOCAL_SHARE * duration_s) + packets.tick_s
    inside: list[tuple[int, int]] = []
    beyond: list[tuple[int, int]] = []
    for first, last in stretches:
        length_s = (last - first) * packets.tick_s
        fits = length_s <= budget_s
        (inside if fits else beyond).append((first, last))
        budget_s -= length_s if fits else 0.0
    return inside, beyond


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


def _looks(arrays: Sequence[NDArray[np.generic]], packets: PacketIndex, info: MediaInfo) -> Looks:
    ticks, hashes, colours, changes = arrays
    order = np.argsort(ticks, kind="stable")
    return Looks(
        ticks=ticks.astype(np.int64)[order],
        times_s=(ticks.astype(np.float64) * packets.tick_s - info.start_s)[order],
        hashes=np.unpackbits(hashes.astype(np.uint8), axis=1)[order],
        colours=colours.astype(np.float32)[order],
        changes=changes.astype(np.float32)[order],
    )


def _pictures(seen: Seen, packets: PacketIndex, info: MediaInfo) -> Keyframes:
    width, height = seen.picture_size
    return Keyframes(
        times_s=tuple(tick * packets.tick_s - info.start_s for tick in seen.pictures),
        pictures=tuple(seen.pictures.values()),
        width=width,
        height=height,
    )


def _full_limits(path: Path, info: MediaInfo) -> Limits:
    base = file_limits(path, PROBE_LIMITS)
    more_s = FULL_CPU_SHARE * info.duration_s
    return Limits(cpu_s=base.cpu_s + more_s, wall_s=base.wall_s + 4 * more_s)
