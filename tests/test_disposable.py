"""Pictures that no other one refers to are found, and leaving them out changes none of the rest."""

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.contracts import MAX_CHUNK_FRAMES
from ingest.disposable import MAX_UNITS, is_disposable, length_bytes
from tests.media import make_video
from tests.test_chunks import cut, decoded, segments_with

B_FRAMES = {"preset": "medium", "bf": "3", "x264-params": "scenecut=0"}
IDR, REFERENCE, DISPOSABLE = 0x65, 0x41, 0x01
DELIMITER, PARAMETERS, MESSAGE = 0x09, 0x67, 0x06
OTHER_VIEW = 0x74


def with_lengths(*heads: int, size: int = 4) -> bytes:
    units = [bytes([head, 0x88, 0x84]) for head in heads]
    return b"".join(len(unit).to_bytes(size) + unit for unit in units)


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ((DISPOSABLE,), True),
        ((DELIMITER, MESSAGE, DISPOSABLE, DISPOSABLE), True),
        ((REFERENCE,), False),
        ((PARAMETERS, IDR), False),
        ((DISPOSABLE, REFERENCE), False),  # two fields, one of which is referred to
        ((DISPOSABLE, OTHER_VIEW), False),
        ((MESSAGE,), False),  # no picture at all
        ((), False),
    ],
)
def test_a_packet_is_disposable_when_nothing_refers_to_any_of_its_slices(
    heads: tuple[int, ...], expected: bool
) -> None:
    assert is_disposable(with_lengths(*heads), 4) is expected
    assert is_disposable(with_lengths(*heads, size=1), 1) is expected


def test_a_packet_with_units_without_end_is_kept() -> None:
    assert is_disposable(with_lengths(*[DISPOSABLE] * MAX_UNITS), 4)
    assert not is_disposable(with_lengths(*[DISPOSABLE] * (MAX_UNITS + 1)), 4)
    assert not is_disposable(bytes(4 * MAX_UNITS + 40), 4)


@given(st.binary(max_size=200), st.integers(1, 4))
def test_any_bytes_are_answered(data: bytes, size: int) -> None:
    assert is_disposable(data, size) in (True, False)


@pytest.mark.parametrize(
    ("extradata", "expected"),
    [
        (None, 0),
        (b"", 0),
        (b"\0\0\0\1\x67\x42\0", 0),
        (b"\1\x42\0\x1e\xff\xe1\0", 4),
        (b"\1\x42\0\x1e\xfd\xe1\0", 2),
    ],
)
def test_the_head_of_a_stream_tells_how_units_are_parted(
    extradata: bytes | None, expected: int
) -> None:
    assert length_bytes(extradata) == expected


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_pictures_are_the_same_without_those_that_nobody_needs(tmp_path: Path, name: str) -> None:
    """Decoded by FFmpeg with nothing skipped, as a decoder of a GPU does."""
    path = make_video(tmp_path / name, gop=100, keyframes_at_cuts=False, options=B_FRAMES)
    whole = decoded(path)
    ticks = sorted(whole)[5:100:19]
    assert len(ticks) < MAX_CHUNK_FRAMES
    _, packets, (chunk,) = cut(path, segments_with([ticks]))
    (tmp_path / "chunk.mkv").write_bytes(chunk.input.data)
    pictures = list(decoded(tmp_path / "chunk.mkv").values())
    stretch = max(packets.position_of[tick] for tick in ticks) + 1
    assert len(pictures) < 0.75 * stretch
    with av.open(str(tmp_path / "chunk.mkv")) as container:
        assert len([p for p in container.demux(video=0) if p.size]) == len(pictures)
    for tick, index in zip(ticks, chunk.input.frame_indices, strict=True):
        np.testing.assert_array_equal(pictures[index], whole[tick])
