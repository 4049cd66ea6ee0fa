"""Pure: where cuts are, told from what frames look like and from the packets they came in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensembles.arrays import Float64Array, FloatArray, UInt8Array
from ingest.media import BoolArray, Int64Array, PacketIndex

HASH_CUT = 10  # bits of 64: more is another picture
HASH_STRONG = 20  # bits: so different that a cut is looked for even without another sign
COLOUR_CUT = 0.4  # share of the pixels whose colour changed
OFF_GRID = 0.9  # a keyframe that comes before this share of the longest distance is early
USUAL_DISTANCES = (250, 240, 161, 160, 128)  # packets: defaults of x264, SVT-AV1, libvpx
REGULAR_SHARE = 0.4  # of the distances are regular where keyframes have a regular turn
SPIKE_RATIO = 2.5  # size of a packet over the large ones around it
SPIKE_KEYFRAME_SHARE = 0.3  # and over this share of a keyframe's size
HINT_RATIO = 1.1  # a packet that large makes it worth to decode a stretch …
HINT_DISTANCE_S = 0.2  # … unless a cut is placed there already
LONG_TAIL = 260  # packets after the last keyframe: more than encoders usually leave
SOFT_STEPS = 5  # samples over which a soft cut changes the picture
SOFT_ONSET_S = 0.5  # between a soft cut and the sound that sets in
NEIGHBOUR_STEPS = 5  # looks to each side that tell movement from a cut
OUTSTANDING = 3.0  # a change over the usual one around it
CHANGE_FLOOR = 0.02  # mean change of brightness under which nothing is a cut
RECOLOUR_FLOOR = 0.25  # share of the pixels


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


@dataclass(frozen=True)
class Doubt:
    """A change between two keyframes whose place nothing tells."""

    first: int  # the keyframes' ticks
    last: int
    strength: int  # bits that differ
    is_hinted: bool  # a packet's size speaks for a cut within


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
        strong = bits[i] > HASH_STRONG or recoloured[i] > COLOUR_CUT
        hinted = strong and has_hint(packets, first, last, placed)
        if hinted or (strong and not placed):
            doubts.append(Doubt(first, last, int(bits[i]), hinted))
        cuts.extend(placed)
    # No keyframe follows the last one to compare with: sizes alone decide, with a look where much
    # follows.
    first, last = int(looks.ticks[-1]), int(packets.ticks.max())
    cuts.extend(spikes(packets, first, last + 1))
    if np.count_nonzero(packets.ticks > first) > LONG_TAIL:
        hinted = has_hint(packets, first, last + 1, cuts)
        doubts.append(Doubt(first, last, HASH_STRONG, hinted))
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
    large = inside & (packets.sizes > floor) & _larger_than_usual(packets, SPIKE_RATIO)
    return [float(time_s) for time_s in packets.times_s[large]]


def has_hint(packets: PacketIndex, first: int, last: int, placed: Sequence[float]) -> bool:
    """Say whether a packet between two ticks, not at a cut, is a little larger than those around.

    Where the picture is changed by movement alone, none is: what a pan shows anew comes in packets
    of one size. Under a strict constant rate a cut may give no hint either.
    """
    inside = (packets.ticks > first) & (packets.ticks < last) & ~packets.keyframes
    hints_s = packets.times_s[inside & _larger_than_usual(packets, HINT_RATIO)]
    return any(all(abs(hint_s - cut_s) > HINT_DISTANCE_S for cut_s in placed) for hint_s in hints_s)


def _larger_than_usual(packets: PacketIndex, ratio: float) -> BoolArray:
    """Say of each packet whether it is so many times the usual size around it, (packets,)."""
    usual = packets.usual_sizes
    return np.asarray((usual > 0) & (packets.sizes > ratio * usual), np.bool_)


def sudden_changes(looks: Looks) -> list[float]:
    """Return the times of looks that are another picture than the one before.

    Movement turns bits of the hash as well, so the brightness or the colours, or very many bits,
    must also change by far more than they do between the looks around.
    """
    if len(looks) < 2:
        return []
    brightness, colours = looks.changes[1:].astype(np.float64), looks.recoloured()
    bits = looks.hamming().astype(np.float64)
    found = []
    for i in np.flatnonzero(bits > HASH_CUT):
        if (
            _stands_out(brightness, i, CHANGE_FLOOR)
            or _stands_out(colours, i, RECOLOUR_FLOOR)
            # A pan changes the brightness as much as a cut does, but never the whole picture.
            or (brightness[i] > CHANGE_FLOOR and _stands_out(bits, i, HASH_STRONG))
        ):
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
