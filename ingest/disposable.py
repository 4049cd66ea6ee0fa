"""Pure: which packets of H.264 no other picture refers to (ITU-T H.264, 7.4.1: nal_ref_idc 0).

Leaving one out changes no other picture: about half of what lies between a keyframe and an exact
frame, where an encoder makes B-frames.
"""

from collections.abc import Iterator

SLICES = range(1, 6)  # types of NAL units that hold parts of a picture
OTHER_VIEWS = (20, 21)  # slices of other layers and views, which may refer to any picture
TYPE_BITS, REFERENCE_BITS = 0x1F, 0x60
MAX_UNITS = 1_000  # of one packet; one with more is kept


def length_bytes(extradata: bytes | None) -> int:
    """Return how long the length before each NAL unit is; 0: it is not told.

    Args:
        extradata: of the stream; an AVCDecoderConfigurationRecord begins with 1 (ISO 14496-15).
    """
    if extradata is None or len(extradata) < 7 or extradata[0] != 1:
        return 0
    return (extradata[4] & 3) + 1


def is_disposable(packet: bytes, length_bytes: int) -> bool:
    """Say whether no other picture refers to the one in a packet of H.264.

    Args:
        packet: one whole picture, or both its fields.
        length_bytes: as `length_bytes` tells, over 0.
    """
    slices = 0
    for number, head in enumerate(_heads(packet, length_bytes)):
        kind = head & TYPE_BITS
        is_slice = kind in SLICES
        if number >= MAX_UNITS or kind in OTHER_VIEWS or (is_slice and head & REFERENCE_BITS):
            return False
        slices += is_slice
    return slices > 0


def _heads(packet: bytes, length_bytes: int) -> Iterator[int]:
    """Yield the first byte of each NAL unit."""
    at = 0
    while at + length_bytes < len(packet):
        yield packet[at + length_bytes]
        at += length_bytes + int.from_bytes(packet[at : at + length_bytes])
