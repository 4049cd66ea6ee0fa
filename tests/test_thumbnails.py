from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import NotFound
from ingest.decode import decode_image
from ingest.media import NO_KEYFRAMES, Keyframes
from ingest.plan import Segment
from ingest.probe import probe, read_packets
from ingest.scenes import keyframe_scenes, pictured_scenes
from ingest.thumbnails import (
    MAGIC,
    MAX_PICTURES,
    SIDE_PX,
    read_head,
    read_keyframes,
    read_thumbnail,
    spacing_s,
    thumbnails_of,
    write_thumbnails,
)
from ingest.webp import MAX_PICTURE_BYTES, PicturesWanted
from tests.media import make_video

pytestmark = pytest.mark.usefixtures("sandbox")

WANTED = PicturesWanted(SIDE_PX, 5.0)


def segment(index: int, start_s: float, end_s: float) -> Segment:
    return Segment(
        index=index,
        scene_index=0,
        start_s=start_s,
        end_s=end_s,
        motion=0.0,
        weight=1.0,
        frames=(),
        windows_s=(),
    )


def keyframes(*times_s: float) -> Keyframes:
    pictures = tuple(f"RIFF at {time_s}".encode() for time_s in times_s)
    return Keyframes(times_s, pictures, 320, 180)


SEGMENTS = [segment(0, 0.0, 5.0), segment(1, 5.0, 10.0), segment(2, 10.0, 15.0)]
IDS = ["v-0", "v-5", "v-10"]


# ---- choosing and keeping


def test_a_segment_shows_what_is_inside_it_next_to_its_middle() -> None:
    assert thumbnails_of(keyframes(0.0, 2.0, 4.9, 6.0, 14.0), SEGMENTS).chosen == (1, 3, 4)


def test_a_segment_without_a_keyframe_shows_the_last_one_before_it() -> None:
    assert thumbnails_of(keyframes(1.0), SEGMENTS).chosen == (0, 0, 0)
    assert thumbnails_of(keyframes(12.0), SEGMENTS).chosen == (0, 0, 0)


def test_without_pictures_there_are_no_thumbnails() -> None:
    assert thumbnails_of(keyframes(), SEGMENTS).chosen == ()


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=30, unique=True).map(sorted),
    st.lists(st.floats(0, 100), min_size=2, max_size=30, unique=True).map(sorted),
)
def test_every_segment_has_a_picture(times_s: list[float], edges_s: list[float]) -> None:
    segments = [segment(i, a, b) for i, (a, b) in enumerate(pairwise(edges_s))]
    chosen = thumbnails_of(keyframes(*times_s), segments).chosen
    assert len(chosen) == len(segments)
    for picked, one in zip(chosen, segments, strict=True):
        inside = [t for t in times_s if one.start_s <= t < one.end_s]
        assert 0 <= picked < len(times_s)
        assert not inside or times_s[picked] in inside


def test_thumbnails_are_read_back_by_segment(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.pack"
    pictures = keyframes(0.0, 2.5, 7.5, 99.0)
    write_thumbnails(path, thumbnails_of(pictures, SEGMENTS), IDS)

    assert read_thumbnail(path, "v-0") == pictures.pictures[1]
    assert read_thumbnail(path, "v-5") == read_thumbnail(path, "v-10") == pictures.pictures[2]
    head, _ = read_head(path)
    assert (head.width, head.height, len(head.places)) == (320, 180, 4)
    with pytest.raises(NotFound, match="no thumbnail"):
        read_thumbnail(path, "v-7")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_all_pictures_are_read_back_with_their_times(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.pack"
    pictures = keyframes(0.0, 2.5, 7.5, 99.0)
    write_thumbnails(path, thumbnails_of(pictures, SEGMENTS), IDS)
    assert read_keyframes(path) == pictures


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_of_a_damaged_file_no_pictures_are_read_back(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "thumbnails.pack"
    write_thumbnails(path, thumbnails_of(keyframes(0.0, 2.5), SEGMENTS), IDS)
    path.write_bytes(path.read_bytes()[:kept])
    assert read_keyframes(path) == NO_KEYFRAMES
    assert read_keyframes(tmp_path / "none") == NO_KEYFRAMES


def test_of_a_file_without_times_no_pictures_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.pack"
    write_thumbnails(path, thumbnails_of(keyframes(0.0, 2.5), SEGMENTS), IDS)
    head, begin = read_head(path)
    data = path.read_bytes()[begin:]
    told = msgspec.msgpack.encode(msgspec.structs.replace(head, times_s=()))
    path.write_bytes(MAGIC + len(told).to_bytes(4, "little") + told + data)
    assert read_thumbnail(path, "v-0") == b"RIFF at 2.5"
    assert read_keyframes(path) == NO_KEYFRAMES


def test_a_video_that_has_no_pictures_any_more_has_no_file(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.pack"
    write_thumbnails(path, thumbnails_of(keyframes(1.0), SEGMENTS), IDS)
    write_thumbnails(path, thumbnails_of(keyframes(), SEGMENTS), IDS)
    with pytest.raises(NotFound, match="no thumbnails"):
        read_thumbnail(path, "v-0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 100,
        MAGIC,
        MAGIC + b"\xff\xff\xff\xff",
        MAGIC + b"\x04\x00\x00\x00abcd",
        MAGIC + b"\x01\x00\x00\x00\xc0",
    ],
)
def test_a_damaged_file_is_not_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "thumbnails.pack"
    path.write_bytes(data)
    with pytest.raises(NotFound, match="damaged"):
        read_thumbnail(path, "v-0")


@given(st.floats(0, 6 * 3600), st.floats(0.1, 60))
def test_a_long_video_has_its_pictures_further_apart(duration_s: float, segment_s: float) -> None:
    apart_s = spacing_s(duration_s, segment_s)
    assert apart_s >= segment_s
    assert duration_s / apart_s <= MAX_PICTURES * 1.001


# ---- taking pictures


def pictured(path: Path) -> Keyframes:
    info = probe(path)
    return pictured_scenes(path, info, read_packets(path, info), WANTED).keyframes


def test_pictures_are_small_webp_images_in_the_order_of_time(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", duration_s=12)
    found = pictured(path)

    assert found.times_s == tuple(sorted(found.times_s))
    assert found.times_s[0] == pytest.approx(0.0, abs=0.1)
    assert max(found.width, found.height) <= SIDE_PX
    for data in found.pictures:
        assert data[:4] == b"RIFF"
        assert data[8:12] == b"WEBP"
        assert len(data) <= MAX_PICTURE_BYTES
        assert decode_image(data).shape == (found.height, found.width, 3)


def test_pictures_stand_upright(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", size=(160, 90), rotation=90, duration_s=3)
    found = pictured(path)
    assert (found.width, found.height) == (90, 160)
    assert decode_image(found.pictures[0]).shape == (160, 90, 3)


def test_scenes_are_the_same_with_and_without_pictures(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", duration_s=12)
    info = probe(path)
    packets = read_packets(path, info)
    with_pictures = pictured_scenes(path, info, packets, WANTED)
    assert with_pictures.scenes == keyframe_scenes(path, info, packets)


def test_a_picture_shows_its_frame(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", duration_s=6)
    shown = decode_image(pictured(path).pictures[0]).astype(np.float64)
    import av

    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(np.float64)
    assert np.abs(shown.mean((0, 1)) - frame.mean((0, 1))).max() < 12
