from pathlib import Path

import av
import pytest

from gateway.errors import MediaLimitExceeded, MediaRefused
from ingest.container import MAX_STREAMS
from ingest.probe import probe, read_packets
from tests.media import (
    Cue,
    make_empty_file,
    make_silent_video,
    make_sound,
    make_text_file,
    make_truncated_video,
    make_video,
    make_wav,
)


@pytest.mark.parametrize(
    ("name", "codecs", "expected"),
    [
        ("a.mp4", ("libx264", "aac"), ("mov", "h264", "aac")),
        ("a.mov", ("libx265", "aac"), ("mov", "hevc", "aac")),
        ("a.mkv", ("mpeg4", "mp3"), ("matroska", "mpeg4", "mp3")),
        ("a.webm", ("libvpx", "libopus"), ("matroska", "vp8", "opus")),
        ("b.webm", ("libvpx-vp9", "libopus"), ("matroska", "vp9", "opus")),
        ("c.webm", ("libsvtav1", "libopus"), ("matroska", "av1", "opus")),
    ],
)
def test_it_tells_container_codecs_size_and_duration(
    tmp_path: Path, name: str, codecs: tuple[str, str], expected: tuple[str, str, str]
) -> None:
    path = make_video(tmp_path / name, video_codec=codecs[0], audio_codec=codecs[1], duration_s=2)
    info = probe(path)
    assert info.video is not None
    assert info.audio is not None
    assert (info.container, info.video.codec, info.audio.codec) == expected
    assert (info.video.width, info.video.height) == (320, 180)
    assert info.video.fps == pytest.approx(25)
    assert info.duration_s == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("turn", "size"), [(90, (180, 320)), (180, (320, 180)), (270, (180, 320))])
def test_size_is_told_as_it_is_shown(tmp_path: Path, turn: int, size: tuple[int, int]) -> None:
    video = probe(make_video(tmp_path / "a.mp4", duration_s=1, rotation=turn)).video
    assert video is not None
    assert video.rotation == turn
    assert (video.width, video.height) == size


def test_subtitle_tracks_are_listed(tmp_path: Path) -> None:
    info = probe(make_video(tmp_path / "a.mkv", duration_s=1, subtitles=(Cue(0, 1, "hi"),)))
    assert [track.codec for track in info.subtitles] == ["subrip"]


def test_sound_alone_and_picture_alone_are_told_apart(tmp_path: Path) -> None:
    assert probe(make_sound(tmp_path / "a.m4a")).video is None
    assert probe(make_wav(tmp_path / "a.wav")).audio is not None
    assert probe(make_silent_video(tmp_path / "a.mp4")).audio is None


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (make_empty_file, "a.mp4", "empty"),
        (make_text_file, "a.mp4", "not_media"),
        (make_text_file, "a.srt", "not_media"),
        (make_truncated_video, "a.mp4", "truncated"),
    ],
)
def test_what_is_no_media_is_refused_with_a_reason(tmp_path: Path, make, name, reason) -> None:
    with pytest.raises(MediaRefused) as refused:
        probe(make(tmp_path / name))
    assert refused.value.reason == reason


def test_a_file_cut_after_its_index_is_refused_when_its_packets_are_read(tmp_path: Path) -> None:
    whole = fast_start(make_video(tmp_path / "a.mp4"), tmp_path / "b.mp4")
    cut = tmp_path / "c.mp4"
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(MediaRefused, match=r"of 6\.0 s") as refused:
        read_packets(cut, probe(cut))
    assert refused.value.reason == "truncated"
    assert len(read_packets(whole, probe(whole))) == 150


def test_a_matroska_file_that_begins_late_is_as_long_as_what_it_shows(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", start_s=3600)
    info = probe(path)
    assert info.start_s == pytest.approx(3600, abs=0.1)
    assert info.duration_s == pytest.approx(6, abs=0.1)
    packets = read_packets(path, info)
    assert packets.shown_s[-1] == pytest.approx(149 / 25, abs=0.1)


@pytest.mark.parametrize("start_s", [0.0, 0.5, 100.0])
def test_a_matroska_file_that_was_cut_is_refused_wherever_it_begins(
    tmp_path: Path, start_s: float
) -> None:
    path = make_video(tmp_path / "a.mkv", start_s=start_s, duration_s=12)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaRefused) as refused:
        read_packets(path, probe(path))
    assert refused.value.reason == "truncated"


def test_a_sound_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    whole = fast_start(make_sound(tmp_path / "a.m4a", duration_s=20), tmp_path / "b.mp4")
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaRefused) as refused:
        probe(whole)
    assert refused.value.reason == "truncated"


def test_a_picture_in_another_codec_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MediaRefused, match="mjpeg") as refused:
        probe(picture_in("mjpeg", tmp_path / "a.mov"))
    assert refused.value.reason == "codec_not_allowed"


def test_another_container_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    make_video(path, video_codec="mpeg4", audio_codec="mp3", duration_s=1)
    with pytest.raises(MediaRefused) as refused:
        probe(path)
    assert refused.value.reason == "not_media"


def test_a_playlist_that_names_other_files_is_refused(tmp_path: Path) -> None:
    secret = make_video(tmp_path / "secret.mp4", duration_s=1)
    for name, text in (
        ("a.m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n"),
        ("a.txt", f"ffconcat version 1.0\nfile '{secret}'\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(MediaRefused) as refused:
            probe(tmp_path / name)
        assert refused.value.reason == "not_media"


def test_too_many_streams_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000) for _ in range(MAX_STREAMS + 1)]
        for stream in streams:
            packet = av.Packet(bytes(160))
            packet.stream = stream
            packet.pts = packet.dts = 0
            container.mux(packet)
    with pytest.raises(MediaLimitExceeded) as refused:
        probe(path)
    assert refused.value.reason == "streams"


def test_too_many_tracks_of_an_mp4_are_refused_too(tmp_path: Path) -> None:
    data = make_silent_video(tmp_path / "a.mp4", duration_s=1).read_bytes()
    index, track = data.find(b"moov") - 4, data.find(b"trak") - 4
    size = int.from_bytes(data[track : track + 4], "big")
    tracks = data[track : track + size] * 3 * MAX_STREAMS
    content = b"moov" + data[index + 8 : track] + tracks
    path = tmp_path / "b.mp4"
    path.write_bytes(data[:index] + (4 + len(content)).to_bytes(4, "big") + content)
    with pytest.raises(MediaLimitExceeded) as refused:
        probe(path)
    assert refused.value.reason == "streams"


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaRefused) as refused:
        probe(make_silent_video(tmp_path / "a.mp4"), max_duration_s=5)
    assert refused.value.reason == "too_long"


def test_packets_are_listed_with_their_times_sizes_and_keyframes(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", options={"preset": "medium", "bf": "2"})
    packets = read_packets(path, probe(path))
    assert len(packets) == 150
    assert packets.shown_s.tolist() == pytest.approx([i / 25 for i in range(150)])
    assert packets.times_s.tolist() != packets.shown_s.tolist()  # B-frames are stored out of order
    assert {0.0, 2.0, 4.0} <= set(packets.keyframe_times_s.round(3).tolist())
    assert packets.end_s == pytest.approx(6.0)
    assert 0 < int(packets.sizes.sum()) < path.stat().st_size


def test_times_begin_at_the_players_zero(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", start_s=3.0, audio_codec=None)
    info = probe(path)
    assert info.start_s == pytest.approx(3.0, abs=0.01)
    assert read_packets(path, info).shown_s[0] == pytest.approx(0.0, abs=1e-6)


def fast_start(path: Path, to: Path) -> Path:
    """Copy an MP4 so that its index stands at the front."""
    with (
        av.open(str(path)) as source,
        av.open(str(to), "w", options={"movflags": "faststart"}) as copy,
    ):
        streams = {s.index: copy.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                copy.mux(packet)
    return to


def picture_in(codec: str, path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for i in range(10):
            frame = av.VideoFrame(64, 48, "yuvj420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
