from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from ensembles.contracts import ABSENT, AUDIO_RATE_HZ, MAX_CHUNK_BYTES, MAX_CHUNK_SEGMENTS
from gateway.settings import Settings
from ingest.calls import Source, SourceFile
from ingest.chunks import Chunk, Sizes, cut_chunks, cut_of, pack
from ingest.decode import decode_frames, decode_windows
from ingest.media import MediaInfo, PacketIndex, decoding_runs, no_packets
from ingest.plan import ModalityWeights, Segment
from ingest.probe import probe, read_packets
from ingest.remux import cut_inside
from tests.media import Scene, make_sound, make_video, packet_index

EVEN = ModalityWeights(1.0, 1.0, 1.0)
OPEN_H264 = {"preset": "medium", "bf": "3", "x264-params": "open-gop=1:keyint=20:scenecut=0"}
OPEN_HEVC = {
    "preset": "fast",
    "x265-params": "open-gop=1:keyint=20:min-keyint=20:scenecut=0:bframes=3:pools=none:"
    "frame-threads=1:log-level=none",
}
MILLISECOND = range(-16, 17)  # of lags, in samples: Matroska's clock
FULL_SIZE = 4096  # short side over every test file's: frames are not shrunk


def segments_with(frames: Sequence[Sequence[int]], windows: Sequence[float] = ()) -> list[Segment]:
    return [
        Segment(i, 0, float(i), float(i + 1), 0.0, 1.0, tuple(ticks), tuple(windows))
        for i, ticks in enumerate(frames)
    ]


def cut(
    path: Path, segments: Sequence[Segment], settings: Settings | None = None
) -> tuple[MediaInfo, PacketIndex, list[Chunk]]:
    info = probe(path)
    packets = read_packets(path, info)
    texts = [""] * len(segments)
    chunks = cut_chunks(path, info, packets, segments, texts, EVEN, settings or Settings())
    return info, packets, list(chunks)


def every(packets: PacketIndex, step: int) -> list[list[int]]:
    ticks = packets.ticks[packets.shown].tolist()
    return [ticks[i : i + 12 : step] for i in range(0, len(ticks), 12)]


def decoded(path: Path) -> dict[int, np.ndarray]:
    with av.open(str(path)) as container:
        return {
            frame.pts: frame.reformat(format="rgb24", interpolation="AREA", threads=1).to_ndarray()
            for frame in container.decode(video=0)
        }


@pytest.mark.parametrize("step", [1, 3, 12])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("b_frames.mp4", {"options": {"preset": "medium", "bf": "3"}}),
        ("open.mp4", {"options": OPEN_H264, "keyframes_at_cuts": False}),
        ("offset.mp4", {"start_s": 3.0, "options": {"preset": "medium", "bf": "2"}}),
        ("hevc.mov", {"video_codec": "libx265"}),
        ("open_hevc.mkv", {"video_codec": "libx265", "options": OPEN_HEVC}),
        ("vp8.webm", {"video_codec": "libvpx", "audio_codec": "libopus"}),
        ("vp9.webm", {"video_codec": "libvpx-vp9", "audio_codec": "libopus"}),
        ("av1.webm", {"video_codec": "libsvtav1", "audio_codec": "libopus"}),
        ("mpeg4.mp4", {"video_codec": "mpeg4", "options": {"bf": "2"}}),
    ],
)
def test_a_frame_of_a_chunk_is_the_frame_of_the_file(
    tmp_path: Path, name: str, options: dict[str, object], step: int
) -> None:
    path = make_video(tmp_path / name, duration_s=3, size=(96, 64), **options)
    packets = read_packets(path, probe(path))
    whole = decoded(path)
    _, _, chunks = cut(path, segments_with(every(packets, step)))
    seen = 0
    for chunk in chunks:
        frames = decode_frames(
            chunk.input.data, chunk.input.frame_indices.tolist(), short_side_px=FULL_SIZE
        )
        ticks = [tick for segment in chunk.segments for tick in segment.frames]
        for frame, tick in zip(frames, ticks, strict=True):
            np.testing.assert_array_equal(frame, whole[tick])
            seen += 1
    assert seen == -(-75 // step) if step != 12 else 7


def test_frame_times_are_on_the_players_clock(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", duration_s=2, start_s=3.0, audio_codec=None)
    packets = read_packets(path, probe(path))
    _, _, (chunk,) = cut(path, segments_with([packets.ticks[[0, 25]].tolist()]))
    assert chunk.frame_times_s.tolist() == pytest.approx([0.0, 1.0])


def test_a_sound_that_ends_early_does_not_make_every_chunk_read_the_whole_file(
    tmp_path: Path,
) -> None:
    path = with_short_sound(make_video(tmp_path / "a.mkv", duration_s=120), until_s=2.0)
    info = probe(path)
    packets = read_packets(path, info)
    segment = segments_with([[int(packets.ticks[0])]], windows=[4.0])
    read_bytes = 0

    class Counted(Source):
        def open(self) -> SourceFile:
            return CountedFile(self.fd)

    class CountedFile(SourceFile):
        def read(self, size: int = -1) -> bytes:
            nonlocal read_bytes
            data = super().read(size)
            read_bytes += len(data)
            return data

    with path.open("rb") as file:
        wanted = msgspec.msgpack.encode(cut_of(segment, packets, info.start_s))
        cut_inside(Counted(file.fileno()), wanted)
    assert read_bytes < info.size_bytes / 2


def with_short_sound(path: Path, *, until_s: float) -> Path:
    """Copy a file without the sound after a time."""
    copy = path.with_name(f"short-{path.name}")
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            is_late = packet.stream.type == "audio" and float(packet.pts or 0) / 1000 > until_s
            if packet.dts is not None and not is_late:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return copy


def test_rotation_survives_the_cut(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", duration_s=1, rotation=90)
    packets = read_packets(path, probe(path))
    _, _, (chunk,) = cut(path, segments_with([[int(packets.ticks[0])]]))
    assert decode_frames(chunk.input.data, [0]).shape == (1, 320, 180, 3)


def test_only_the_packets_needed_are_copied(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", gop=25, keyframes_at_cuts=False, audio_codec=None)
    packets = read_packets(path, probe(path))
    keyframes = packets.ticks[packets.keyframes].tolist()
    _, _, (chunk,) = cut(path, segments_with([[tick] for tick in keyframes]))
    needed = int(packets.sizes[packets.keyframes].sum())
    assert needed < len(chunk.input.data) < needed + 4000
    assert chunk.input.frame_indices.tolist() == list(range(len(keyframes)))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "aac"), ("a.webm", "libopus"), ("a.mkv", "flac"), ("b.mkv", "mp3")],
)
def test_windows_sound_as_they_do_in_the_file(tmp_path: Path, name: str, codec: str) -> None:
    shots = tuple(Scene("flat", tone_hz=hz) for hz in (300, 500, 700, 900, 1100, 1300))
    video = "libvpx" if name.endswith("webm") else "libx264"
    path = make_video(
        tmp_path / name, scenes=shots, duration_s=12, video_codec=video, audio_codec=codec
    )
    starts_s = (0.0, 3.0, 7.25, 10.0)
    _, _, (chunk,) = cut(path, segments_with([[]], starts_s))
    windows = decode_windows(chunk.input.data, chunk.input.audio_starts_s.tolist())
    whole = sound_of(path)
    for window, start_s in zip(windows, starts_s, strict=True):
        begin = round(start_s * AUDIO_RATE_HZ)
        there = whole[begin : begin + window.size]
        inner = slice(800, there.size - 800)
        apart = [np.abs(np.roll(window, lag)[inner] - there[inner]).mean() for lag in MILLISECOND]
        assert min(apart) < 0.05


def sound_of(path: Path) -> np.ndarray:
    """Decode all sound of a file to 16 kHz mono on its own clock."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", AUDIO_RATE_HZ)
        frames = list(container.decode(audio=0))
        parts = [p for frame in [*frames, None] for p in resampler.resample(frame)]
        samples = np.concatenate([part.to_ndarray().reshape(-1) for part in parts])
        lead = round(float(frames[0].time or 0) * AUDIO_RATE_HZ)
    return np.concatenate([np.zeros(max(0, lead), np.float32), samples[max(0, -lead) :]])


def test_sound_alone_is_cut_into_chunks(tmp_path: Path) -> None:
    path = make_sound(tmp_path / "a.mp3", duration_s=8, audio_codec="mp3")
    info = probe(path)
    segments = segments_with([[], []], (1.0, 4.0))
    chunks = cut_chunks(path, info, no_packets(), segments, ["", "said"], EVEN, Settings())
    (chunk,) = chunks
    assert chunk.input.frame_indices.tolist() == [ABSENT]
    assert chunk.input.frame_weights.tolist() == [0.0]
    assert chunk.input.transcript_weights.tolist() == [0.0, 1.0]
    assert np.abs(decode_windows(chunk.input.data, chunk.input.audio_starts_s.tolist())).max() > 0.1


def test_a_modality_that_is_not_there_has_one_absent_row(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", duration_s=1, audio_codec=None)
    _, _, (chunk,) = cut(path, segments_with([[]]))
    assert chunk.input.audio_starts_s.tolist() == [ABSENT]
    assert chunk.input.frame_indices.tolist() == [ABSENT]
    assert len(chunk.input.data) > 0
    assert not decode_frames(chunk.input.data, [ABSENT]).any()


def test_weights_are_those_of_the_segments_times_those_of_the_modalities(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", duration_s=2)
    info = probe(path)
    packets = read_packets(path, info)
    segments = [
        replace(segment, weight=weight)
        for segment, weight in zip(
            segments_with([[int(packets.ticks[0])], [int(packets.ticks[30])]], (0.0,)),
            (0.5, 1.5),
            strict=True,
        )
    ]
    weights = ModalityWeights(1.0, 2.0, 4.0)
    (chunk,) = cut_chunks(path, info, packets, segments, ["a", ""], weights, Settings())
    assert chunk.input.frame_weights.tolist() == [0.5, 1.5]
    assert chunk.input.audio_weights.tolist() == [1.0, 3.0]
    assert chunk.input.transcript_weights.tolist() == [2.0, 0.0]


def big_packets(count: int, size: int) -> PacketIndex:
    return packet_index([size] * count, range(count))


def test_chunks_hold_whole_consecutive_segments_within_every_limit() -> None:
    sizes = Sizes(big_packets(1000, 3 * 1024**2), 0.0)
    segments = segments_with([[5 * i + j for j in range(5)] for i in range(100)])
    settings = Settings(max_chunk_frames=16)
    groups = list(pack(segments, sizes, settings))
    assert [s.index for group in groups for s in group] == list(range(100))
    for group in groups:
        assert sum(len(s.frames) for s in group) <= 16
        assert sizes.of_segments(group) <= MAX_CHUNK_BYTES
    empty = list(pack(segments_with([[]] * 200), sizes, settings))
    assert max(len(group) for group in empty) <= MAX_CHUNK_SEGMENTS


def test_a_segment_too_large_for_a_chunk_loses_frames_and_never_fails() -> None:
    sizes = Sizes(big_packets(100, 9 * 1024**2), 0.0)
    ((segment,),) = pack(segments_with([list(range(16))]), sizes, Settings())
    assert 1 <= len(segment.frames) < 16
    assert sizes.of_segments([segment]) <= MAX_CHUNK_BYTES
    huge = Sizes(big_packets(10, 40 * 1024**2), 0.0)
    ((segment,),) = pack(segments_with([[0, 1]]), huge, Settings())
    assert segment.frames == ()


def test_frames_shown_before_a_keyframe_that_follow_it_need_the_one_before() -> None:
    ticks = np.array([0, 2, 1, 5, 3, 4, 7, 6])  # the keyframe shown at 5 comes before 3 and 4
    keyframes = np.array([True, False, False, True, False, False, False, False])
    assert decoding_runs(ticks, keyframes, [4]) == [(0, 4)]
    assert decoding_runs(ticks, keyframes, [3]) == [(3, 3)]
    assert decoding_runs(ticks, keyframes, [2, 3]) == [(0, 2), (3, 3)]
    assert decoding_runs(ticks, keyframes, [3, 2, 5]) == [(0, 5)]
