from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.decode import decode_frames
from ingest.frames import MAX_LANES, Run, dealt
from ingest.pictures import LANES_PX, lanes_within
from loadtest.bench_ingest_media import FPS, Recipe, made


@st.composite
def runs_and_sizes(draw: st.DrawFn) -> tuple[list[Run], list[int]]:
    sizes = draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=60))
    edges = sorted(draw(st.sets(st.integers(0, len(sizes) - 1), max_size=20)))
    return list(zip(edges[::2], edges[1::2], strict=False)), sizes


@given(runs_and_sizes(), st.integers(1, MAX_LANES))
def test_each_stretch_is_in_one_lane(made_up: tuple[list[Run], list[int]], lanes: int) -> None:
    runs, sizes = made_up
    hands = dealt(runs, sizes, lanes)
    assert sorted(chain.from_iterable(hands)) == runs
    assert all(hand == sorted(hand) for hand in hands)
    assert len(hands) == max(1, min(lanes, len(runs)))
    assert not runs or all(hands)


def test_a_long_stretch_has_a_lane_of_its_own() -> None:
    assert dealt([(0, 0), (1, 9), (10, 10), (11, 11)], [5] * 12, 2) == [
        [(1, 9)],
        [(0, 0), (10, 10), (11, 11)],
    ]


def test_fewer_decoders_of_larger_pictures_work_side_by_side() -> None:
    assert lanes_within(1920, 1080, 4) == 4
    assert lanes_within(LANES_PX // 2, 1, 4) == 2
    assert lanes_within(8192, 8192, 4) == 1


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("indices", [range(0, 16 * FPS, 2 * FPS), (70, 3, 120, 260, 399)])
def test_frames_decoded_side_by_side_are_those_decoded_alone(
    tmp_path: Path, indices: range | tuple[int, ...]
) -> None:
    chunk = made(Recipe(16.0, 144, "fixed"), tmp_path, lambda _: None).read_bytes()
    together = decode_frames(chunk, indices, short_side_px=72)
    for index, frame in zip(indices, together, strict=True):
        np.testing.assert_array_equal(decode_frames(chunk, [index], short_side_px=72)[0], frame)


@pytest.mark.usefixtures("sandbox")
def test_a_picture_that_changes_its_size_keeps_its_first_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.options = {"x264-params": "repeat-headers=1"}
        for number, packet in enumerate([*_keyframe(320, 180), *_keyframe(160, 90)]):
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base = stream.time_base or 0
            container.mux(packet)
    frames = decode_frames(path.read_bytes(), [0, 1])
    assert frames.shape == (2, 180, 320, 3)
    assert abs(float(frames[0].mean()) - float(frames[1].mean())) < 2


def _keyframe(width: int, height: int) -> list[av.Packet]:
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, FPS)
    encoder.options = {"x264-params": "repeat-headers=1"}
    grey = av.VideoFrame.from_ndarray(np.full((height, width, 3), 120, np.uint8), "rgb24")
    return [*encoder.encode(grey.reformat(format="yuv420p")), *encoder.encode(None)]
