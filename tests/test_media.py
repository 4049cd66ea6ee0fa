"""The media files that other tests read are what they claim to be."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import av
import pytest

from tests.media import (
    Cue,
    cut_times_s,
    image_bytes,
    make_empty_file,
    make_silent_video,
    make_sound,
    make_text_file,
    make_truncated_video,
    make_video,
    make_wav,
)


@pytest.mark.parametrize(
    ("name", "video_codec", "audio_codec"),
    [
        ("a.mp4", "libx264", "aac"),
        ("a.mov", "libx265", "aac"),
        ("a.mkv", "libx264", "flac"),
        ("a.webm", "libvpx", "libopus"),
        ("b.webm", "libvpx-vp9", "libopus"),
    ],
)
def test_a_test_video_has_keyframes_at_its_cuts(
    tmp_path: Path, name: str, video_codec: str, audio_codec: str
) -> None:
    path = make_video(tmp_path / name, video_codec=video_codec, audio_codec=audio_codec)
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == 1
        packets = [p for p in container.demux(video=0) if p.pts is not None]
    keyframes = {float((p.pts or 0) * p.time_base) for p in packets if p.is_keyframe}
    assert len(packets) == 150
    assert {0.0, *cut_times_s()} <= keyframes


def test_encoding_leaves_the_thread_as_it_was(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0)
    make_video(tmp_path / "a.webm", video_codec="libsvtav1", audio_codec="libopus")
    assert os.sched_getscheduler(0) == before


def test_a_test_video_can_be_turned_shifted_and_subtitled(tmp_path: Path) -> None:
    lines = (Cue(0.0, 1.0, "hello"), Cue(1.0, 2.0, "again"))
    turned = make_video(tmp_path / "t.mp4", duration_s=2, rotation=90, subtitles=lines)
    shifted = make_video(tmp_path / "s.mkv", duration_s=2, start_s=5.0, subtitles=lines)
    with av.open(str(turned)) as container:
        assert next(container.decode(video=0)).rotation % 360 == 270
    with av.open(str(shifted)) as container:
        assert container.start_time == 5_000_000
        texts = [(p.pts, bytes(p)) for p in container.demux(subtitles=0) if p.size]
    assert texts == [(5000, b"hello"), (6000, b"again")]


def test_sound_and_picture_come_alone_where_asked(tmp_path: Path) -> None:
    with av.open(str(make_sound(tmp_path / "a.mp4"))) as container:
        assert [stream.type for stream in container.streams] == ["audio"]
    with av.open(str(make_silent_video(tmp_path / "b.mp4"))) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    with av.open(str(make_wav(tmp_path / "c.wav"))) as container:
        assert container.streams.audio[0].rate == 16_000


@pytest.mark.parametrize("make", [make_truncated_video, make_text_file, make_empty_file])
def test_a_broken_file_cannot_be_opened(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(av.error.InvalidDataError):
        av.open(str(make(tmp_path / "a.mp4")))


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_an_image_has_the_size_that_was_asked_for(
    tmp_path: Path, kind: Literal["png", "jpeg", "webp"]
) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(image_bytes(kind, size=(200, 100)))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (200, 100)
