"""Pure: what a frame between keyframes costs, and which of them a video is given without PIX.

Such a frame takes all packets from the keyframe before it, so a file whose cuts are mostly between
keyframes could need most of its packets for one frame a scene. Without PIX the cheapest of these
frames are taken, up to a share of the packets. Where that is not enough, a scene shares the segment
of the one before it, up to MAX_UNSEEN_CELLS: so every segment still has a frame of its own.
"""

from collections.abc import Sequence
from dataclasses import replace

from ingest.budget import Span, count_within, range_within
from ingest.media import PacketIndex, decoding_runs

SETTLED_S = 0.12  # into a span: cuts are placed that exactly
EXACT_S = 4.0  # of a video decoded at most for these frames …
EXACT_SHARE = 0.03  # … or this share of it, whichever is more
MAX_UNSEEN_CELLS = 6  # of a segment that grows for want of these frames
GOLDEN = 0.618034  # its multiples, less their whole parts, spread equals over all of a video


def cheapest(packets: PacketIndex, span: Span) -> list[int]:
    """Return the frame of a span without keyframe that the fewest packets must be decoded for.

    The one stored first is: the stretch from the keyframe before ends with it. Frames at the very
    beginning are left out, where the end of the scene before may still be seen.

    Returns:
        Its position in presentation order; nothing where the span has no frame.
    """
    inside = range_within(packets.shown_s, span)
    settled = range_within(packets.shown_s, replace(span, start_s=span.start_s + SETTLED_S))
    return sorted(settled or inside, key=lambda at: int(packets.shown[at]))[:1]


def affordable(
    spans: Sequence[Span], packets: PacketIndex, duration_s: float, segment_s: float
) -> tuple[Span, ...]:
    """Join spans to the one before whose exact frames would take too many packets.

    Args:
        spans: of a video, in order.
        packets: of its picture.
        duration_s: of the video.
        segment_s: the length of a cell.

    Returns:
        Spans whose boundaries are among those given; the first one stays.
    """
    seen = _seen(spans, packets, max(EXACT_SHARE, EXACT_S / duration_s) * len(packets))
    joined = list(spans[:1])
    for number, span in enumerate(spans[1:], 1):
        length_s = span.end_s - joined[-1].start_s
        if number in seen or length_s > MAX_UNSEEN_CELLS * segment_s:
            joined.append(span)
        else:
            joined[-1] = replace(joined[-1], end_s=span.end_s)
    return tuple(joined)


def _seen(spans: Sequence[Span], packets: PacketIndex, budget: float) -> set[int]:
    """Return the spans that have a keyframe, and those whose exact frame the budget pays for.

    The nearest to a keyframe come first; of frames after the same keyframe each costs only the
    packets after the one before it, because they are decoded together.
    """
    seen, wanted = set[int](), list[tuple[int, float, int, int]]()
    for number, span in enumerate(spans):
        frame = cheapest(packets, span)
        if count_within(packets.keyframe_times_s, span):
            seen.add(number)
        elif frame:
            position = int(packets.shown[frame[0]])
            ((first, last),) = decoding_runs(packets.ticks, packets.keyframes, [position])
            wanted.append((last - first, number * GOLDEN % 1, first, number))
    reached: dict[int, int] = {}  # packets decoded after a keyframe
    for depth, _, keyframe, number in sorted(wanted):
        cost = depth - reached.get(keyframe, 0)
        if cost <= budget:
            budget -= cost
            reached[keyframe] = depth
            seen.add(number)
    return seen
