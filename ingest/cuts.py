"""Pure: where cuts are, told from what frames look like and from the packets they came in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensembles.arrays import Float64Array, FloatArray, UInt8Array
from ingest.media import BoolArray, Int64Array, PacketIndex

HASH_CUT = 10  # bits of 64: more is another picture
HASH_STRONG = 20  # bits: so different that a cut is looked for even without another sign
COLOUR_CUT = 0.4  # share of the pixels whose colour changed
OFF_GRID = 0.97  # a keyframe that comes before this share of the longest distance is early
USUAL_DISTANCES = (250, 240, 161, 160, 128)  # packets: defaults of x264, SVT-AV1, libvpx
REGULAR_SHARE = 0.4  # of the distances are regular where keyframes have a regular turn …
ROUND_DISTANCES = (10, 12, 15, 16)  # … which is a multiple of these …
MANY_DISTANCES = 12  # … or is seen so often
SURE_DISTANCES = 3  # of the regular length; with fewer it may be chance
SPIKE_RATIO = 2.5  # size of a packet over the large ones around it
SPIKE_KEYFRAME_SHARE = 0.3  # and over this share of a keyframe's size
HINT_RATIO = 1.05  # a packet that much larger may be a cut …
HINT_KEYFRAME_SHARE = 0.25  # … if it has this share of a keyframe's size …
HINT_DISTANCE_S = 0.2  # … and no cut is placed there already
PREDICTED_AT_CUT = 0.4  # share of a picture that is taken from others: at a cut it is less
DENSE_KEYFRAMES = 12  # packets between them at most where sizes of predicted ones tell little …
CLOSE_SPACING_S = 0.5  # … and keyframes are compared instead, one in this time
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


# ---- from packets and keyframes -----------------------------------------------------------------


def looked_keyframes(
    packets: PacketIndex, spacing_s: float, hinted: Sequence[int] | Int64Array
) -> list[int]:
    """Choose the keyframes that are worth a look.

    Args:
        packets: of the video.
        spacing_s: one in this time at least, if there are as many.
        hinted: positions of packets of which the keyframes on both sides are wanted.

    Returns:
        Positions, in the order of time: besides these each early keyframe and the one before it;
        and one every CLOSE_SPACING_S where keyframes are dense, or too few to be sure of a rhythm.
    """
    keys = packets.shown[packets.keyframes[packets.shown]]
    early = np.isin(packets.ticks[keys], list(early_keyframes(packets)))
    wanted = early | np.append(early[1:], False)
    after = np.searchsorted(packets.ticks[keys], packets.ticks[np.asarray(hinted, np.int64)])
    wanted[np.clip([*after, *(after - 1)], 0, len(keys) - 1).astype(np.int64)] |= len(after) > 0
    if _are_dense(packets) or _are_few(packets):
        spacing_s = min(spacing_s, CLOSE_SPACING_S)
    slots = (packets.times_s[keys] - packets.times_s[keys[0]]) // spacing_s
    wanted[np.unique(slots, return_index=True)[1]] = True
    return [int(key) for key in keys[wanted]]


def hints(packets: PacketIndex, at_most: int) -> Int64Array:
    """Return the positions, ascending, of the predicted packets whose size speaks most for a cut.

    A cut makes a packet a little larger than all those around. Where the picture is changed by
    movement alone, none is: what a pan shows anew comes in packets of one size. Under a strict
    constant rate a cut may give no hint either.
    """
    floor = HINT_KEYFRAME_SHARE * float(np.median(packets.sizes[packets.keyframes]))
    large = (packets.sizes > floor) & _larger_than_usual(packets, HINT_RATIO)
    found = np.flatnonzero(large & ~packets.keyframes)
    excess = packets.sizes[found] / packets.usual_sizes[found]
    return np.sort(found[np.argsort(-excess, kind="stable")[:at_most]])


def cuts_at_early_keyframes(looks: Looks, packets: PacketIndex) -> list[float]:
    """Return when keyframes are shown before their turn that look unlike the one before.

    Where keyframes are dense, movement brings them early too: x264 asks for less the longer it is
    since the last one. There the change must stand out as well.
    """
    early = _are_early(looks, packets)
    if _are_dense(packets):
        early &= np.isin(looks.times_s[1:], sudden_changes(looks))
    return [float(time_s) for time_s in looks.times_s[1:][early & _differ(looks)]]


def doubtful_changes(looks: Looks, packets: PacketIndex) -> list[tuple[int, int]]:
    """Return the stretches between keyframes, in ticks, in which nothing tells whether a cut is.

    Where keyframes are dense they are the sudden changes. Where keyframes seem to be regular, but
    are too few to be sure, they are those before each regular one that looks different.
    """
    if _are_dense(packets):
        changed = np.isin(looks.times_s[1:], sudden_changes(looks))
    else:
        changed = _differ(looks) & ~_are_early(looks, packets) & _are_few(packets)
    return [(int(looks.ticks[i]), int(looks.ticks[i + 1])) for i in np.flatnonzero(changed)]


def cuts_at_dense_keyframes(
    stretches: Sequence[tuple[int, int]], packets: PacketIndex
) -> list[float]:
    """Return cuts in changes between keyframes that nothing looks into: at the later keyframe.

    Only where keyframes are dense: elsewhere a change from one to the next may be movement.

    Args:
        stretches: of `doubtful_changes`, in ticks.
        packets: of the video.
    """
    if not _are_dense(packets):
        return []
    return [float(packets.times_s[packets.ticks == last][0]) for _, last in stretches]


def _are_dense(packets: PacketIndex) -> bool:
    """Say whether keyframes lie so close that hardly a cut lies between them."""
    return len(packets) <= DENSE_KEYFRAMES * int(np.count_nonzero(packets.keyframes))


def _are_few(packets: PacketIndex) -> bool:
    """Say whether there are too few regular keyframes to be sure that they are."""
    distances = np.diff(np.flatnonzero(packets.keyframes))
    regular = regular_distance(distances, packets)
    return (
        regular is not None and np.count_nonzero(distances >= OFF_GRID * regular) < SURE_DISTANCES
    )


def cuts_at_unpredicted(
    packets: PacketIndex, positions: Int64Array, predicted: FloatArray
) -> list[float]:
    """Return the cuts at packets of which hardly anything is predicted from other pictures.

    Frames shown before the packet and stored after it lie between it and the picture that it
    could have been predicted from: the cut is before one of these or before the packet itself;
    the middle is taken.

    Args:
        packets: of the video.
        positions: (n,) of the packets, ascending.
        predicted: (n,) share of each one's picture that is taken from others, 0…1.
    """
    cuts = []
    for position in positions[predicted < PREDICTED_AT_CUT].tolist():
        end = position + 1
        while end < len(packets) and packets.ticks[end] < packets.ticks[position]:
            end += 1
        between_s = np.sort(packets.times_s[position:end])
        cuts.append(float(between_s[len(between_s) // 2]))
    return cuts


def place_cuts(
    looks: Looks, packets: PacketIndex, hinted: Int64Array
) -> tuple[list[float], list[tuple[int, int]]]:
    """Place cuts between keyframes that look different, where packets' contents are not known.

    Args:
        looks: of keyframes.
        packets: of the video.
        hinted: positions of the packets that may be cuts: `hints`.

    Returns:
        The times of the cuts in seconds, unsorted, and the stretches, in ticks, that must be
        decoded to know more, the shortest first: from a keyframe until a little after a hint.
    """
    cuts: list[float] = []
    doubts: list[tuple[int, int]] = []
    edges = zip(looks.ticks, [*looks.ticks[1:], packets.ticks.max() + 1], strict=True)
    for (first, last), differ in zip(edges, [*_differ(looks), True], strict=True):
        if not differ:
            continue
        placed = spikes(packets, int(first), int(last))
        cuts.extend(placed)
        inside = (packets.ticks[hinted] > first) & (packets.ticks[hinted] < last)
        for position in hinted[inside].tolist():
            hint_s = float(packets.times_s[position])
            if all(abs(hint_s - cut_s) > HINT_DISTANCE_S for cut_s in placed):
                doubts.append(_around(packets, position))
    return cuts, sorted(doubts, key=lambda doubt: doubt[1] - doubt[0])


def _around(packets: PacketIndex, position: int) -> tuple[int, int]:
    """Return the ticks of the keyframe before a packet, and of the packet shown a little later."""
    keys = np.sort(packets.ticks[packets.keyframes])
    before = int(keys[max(0, int(np.searchsorted(keys, packets.ticks[position])) - 1)])
    later_s = packets.times_s[position] + HINT_DISTANCE_S
    shown = packets.shown[min(len(packets) - 1, int(np.searchsorted(packets.shown_s, later_s)))]
    return before, int(packets.ticks[shown])


def _differ(looks: Looks) -> BoolArray:
    """Say of each look but the first whether it differs from the one before, (n - 1,)."""
    return np.asarray((looks.hamming() > HASH_CUT) | (looks.recoloured() > COLOUR_CUT), np.bool_)


def _are_early(looks: Looks, packets: PacketIndex) -> BoolArray:
    """Say of each look but the first whether it is of an early keyframe, (n - 1,)."""
    return np.isin(looks.ticks[1:], list(early_keyframes(packets)))


def early_keyframes(packets: PacketIndex) -> set[int]:
    """Return the ticks of the keyframes that an encoder set before their regular turn."""
    positions = np.flatnonzero(packets.keyframes)
    distances = np.diff(positions)
    regular = regular_distance(distances, packets)
    early = distances < (OFF_GRID * regular if regular else np.inf)
    return set(packets.ticks[positions[1:][early]].tolist())


def regular_distance(distances: Int64Array, packets: PacketIndex) -> int | None:
    """Return the packets between keyframes where nothing else asks for one; None if never seen.

    It is the longest distance, if encoders are usually set to it, or very many are as long. A few
    equal ones that nobody would set are shots of one length.
    """
    if not distances.size:
        return None
    longest = int(distances.max())
    frames_per_s = round(1 / max(float(np.median(np.diff(packets.shown_s))), packets.tick_s))
    repeated = distances.size > 1 and np.mean(distances >= OFF_GRID * longest) >= REGULAR_SHARE
    usual = longest in USUAL_DISTANCES or longest % max(1, frames_per_s) == 0
    round_number = any(longest % divisor == 0 for divisor in ROUND_DISTANCES)
    settable = round_number or distances.size >= MANY_DISTANCES or longest <= DENSE_KEYFRAMES
    return longest if usual or (repeated and settable) else None


def spikes(packets: PacketIndex, first: int, last: int) -> list[float]:
    """Return when packets between two ticks are shown that are far larger than those around."""
    inside = (packets.ticks > first) & (packets.ticks < last) & ~packets.keyframes
    floor = SPIKE_KEYFRAME_SHARE * float(np.median(packets.sizes[packets.keyframes]))
    large = inside & (packets.sizes > floor) & _larger_than_usual(packets, SPIKE_RATIO)
    return [float(time_s) for time_s in packets.times_s[large]]


def _larger_than_usual(packets: PacketIndex, ratio: float) -> BoolArray:
    """Say of each packet whether it is so many times the usual size around it, (packets,)."""
    usual = packets.usual_sizes
    return np.asarray((usual > 0) & (packets.sizes > ratio * usual), np.bool_)


# ---- from pictures ------------------------------------------------------------------------------


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
