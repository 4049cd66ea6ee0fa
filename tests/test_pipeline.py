import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensembles.arrays import FloatArray, UInt8Array
from ensembles.bundle import Bundle, Capabilities
from ensembles.chunk import ChunkEmbeddings, ChunkInput, SegmentTokens
from ensembles.contracts import AUDIO_WINDOW_SAMPLES, Dimensions
from gateway.errors import ConfigurationError, InvalidRequest, MediaRefused, Unavailable
from gateway.settings import Settings
from ingest.decode import decode_frames, decode_windows
from ingest.pipeline import Analysis, AnalysisRequest, analyse
from ingest.tokens import ARRAYS, read_tokens
from tests.media import (
    Cue,
    make_empty_file,
    make_silent_video,
    make_sound,
    make_text_file,
    make_truncated_video,
    make_video,
)

DIMS = Dimensions(
    vision=32,
    sentence=24,
    audio=16,
    fused=8,
    image_size_px=16,
    clip_tokens=16,
    sentence_tokens=16,
)
BUNDLE = Bundle("test", 1, DIMS, Capabilities(False, False, False), {})
SRT = b"""1
00:00:00,200 --> 00:00:01,800
Knead the dough.

2
00:00:02,200 --> 00:00:03,800
Tune the <i>guitar</i>.
"""


class ProjectingEmbedder:
    """Decodes as Triton's models do, then projects pixels, sound and letters by fixed matrices."""

    def __init__(self) -> None:
        generator = np.random.default_rng(7)
        side = DIMS.image_size_px
        self._vision = generator.normal(size=(side * side * 3, DIMS.vision)).astype(np.float32)
        self._audio = generator.normal(size=(AUDIO_WINDOW_SAMPLES // 2 + 1, DIMS.audio))
        self._text = generator.normal(size=(256, DIMS.sentence)).astype(np.float32)
        self.chunks: list[ChunkInput] = []
        self.decoded: list[UInt8Array] = []  # frames of each call, (n, height, width, 3)
        self.most_at_once = 0
        self._running = 0

    async def embed_frames(self, frames: UInt8Array, *, timeout_s: float) -> FloatArray:
        assert timeout_s > 0
        self.decoded.append(frames)
        return self._project(frames)

    async def embed_video(self, chunk: ChunkInput, *, timeout_s: float) -> ChunkEmbeddings:
        assert timeout_s > 0
        self.chunks.append(chunk)
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            return await asyncio.to_thread(self._embed, chunk)
        finally:
            self._running -= 1

    def _project(self, frames: UInt8Array) -> FloatArray:
        side = DIMS.image_size_px
        rows = np.linspace(0, frames.shape[1] - 1, side).astype(int)
        columns = np.linspace(0, frames.shape[2] - 1, side).astype(int)
        pixels = frames[:, rows][:, :, columns].reshape(len(frames), -1).astype(np.float32)
        return unit(pixels @ self._vision)

    def _embed(self, chunk: ChunkInput) -> ChunkEmbeddings:
        indices = chunk.frame_indices.tolist()
        frames = decode_frames(chunk.data, indices, short_side_px=DIMS.decoded_px)
        windows = decode_windows(chunk.data, chunk.audio_starts_s.tolist())
        spectra = np.abs(np.fft.rfft(windows, axis=1))
        counts = np.stack(
            [
                np.bincount(np.frombuffer(t.encode(), np.uint8), minlength=256)
                for t in chunk.transcripts
            ]
        )
        text = unit(counts @ self._text)
        return ChunkEmbeddings(
            frames=self._project(frames),
            audio=unit(spectra @ self._audio),
            text=text,
            fused=unit(text[:, : DIMS.fused] + 1e-3),
        )

    async def fuse(self, tokens: SegmentTokens, *, timeout_s: float) -> FloatArray:
        assert timeout_s > 0
        said = (tokens.text * tokens.text_weights[..., None]).sum(axis=1)
        return unit(unit(said)[:, : DIMS.fused] + 1e-3)


def unit(rows: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.maximum(lengths, 1e-9)).astype(np.float32)


def analysed(
    path: Path,
    embedder: ProjectingEmbedder | None = None,
    settings: Settings | None = None,
    **known: object,
) -> Analysis:
    request = AnalysisRequest(video_id="v1", pix=0, bundle=BUNDLE)
    request = replace(request, **known)
    told: list[tuple[str, float]] = []
    found = asyncio.run(
        analyse(
            path,
            request,
            settings or Settings(),
            embedder or ProjectingEmbedder(),
            lambda stage, percent: told.append((stage, percent)),
        )
    )
    percents = [percent for _, percent in told]
    assert percents == sorted(percents)
    assert percents[-1] == 95
    assert {stage for stage, _ in told} == {"probe", "transcript", "scenes", "embed", "fuse"}
    return found


def test_a_video_becomes_a_row_for_each_segment_with_all_it_has(tmp_path: Path) -> None:
    found = analysed(make_video(tmp_path / "a.mp4"), transcript=SRT, transcript_name="a.srt")
    assert [row.segment_id for row in found.segments] == [
        "v1-000000000",
        "v1-000002000",
        "v1-000004000",
    ]
    assert [row.text for row in found.segments] == ["Knead the dough.", "Tune the guitar.", ""]
    assert [row.speech is not None for row in found.segments] == [True, True, False]
    for row in found.segments:
        assert row.visual is not None
        assert row.sound is not None
        assert row.fused is not None
        assert np.linalg.norm(row.visual) == pytest.approx(1, abs=1e-5)
        assert row.frames >= 1
    assert found.segments[-1].end_s == found.info.duration_s
    assert set(found.stage_s) == {"probe", "transcript", "scenes", "cut", "embed", "fuse"}


@pytest.mark.parametrize(
    ("name", "codec", "audio"),
    [
        ("a.webm", "libvpx-vp9", "libopus"),
        ("b.webm", "libvpx", "libopus"),
        ("a.mkv", "libx264", "aac"),
        ("a.mov", "libx265", "aac"),
    ],
)
def test_every_container_and_codec_gives_rows(
    tmp_path: Path, name: str, codec: str, audio: str
) -> None:
    found = analysed(make_video(tmp_path / name, video_codec=codec, audio_codec=audio))
    assert len(found.segments) == 3
    assert all(row.visual is not None and row.sound is not None for row in found.segments)


def test_segments_of_different_scenes_look_different_and_equal_files_look_equal(
    tmp_path: Path,
) -> None:
    first = analysed(make_video(tmp_path / "a.mp4"))
    again = analysed(make_video(tmp_path / "b.mp4"))
    for row, same in zip(first.segments, again.segments, strict=True):
        assert row.visual is not None
        assert same.visual is not None
        np.testing.assert_array_equal(row.visual, same.visual)
    a, b = first.segments[0].visual, first.segments[1].visual
    assert a is not None
    assert b is not None
    assert float(a @ b) < 0.99


def test_more_pix_adds_frames_and_keeps_every_segment_id(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", duration_s=12, gop=75, keyframes_at_cuts=False)
    ids: set[str] = set()
    frames = 0
    for pix in (0, 20, 200):
        found = analysed(path, pix=pix)
        now = {row.segment_id for row in found.segments}
        assert ids <= now
        assert found.counts.frames > frames
        ids, frames = now, found.counts.frames


def test_a_silent_video_has_pictures_alone(tmp_path: Path) -> None:
    found = analysed(make_silent_video(tmp_path / "a.mp4"))
    assert all(row.sound is None and row.visual is not None for row in found.segments)
    assert found.tokens.audio.shape == (0, DIMS.audio)


def test_a_sound_file_has_segments_by_time_with_sound_and_words(tmp_path: Path) -> None:
    path = make_sound(tmp_path / "a.m4a", duration_s=12)
    found = analysed(path, transcript=SRT, transcript_name="a.srt")
    assert [row.start_s for row in found.segments] == pytest.approx([0.0, 6.0], abs=0.1)
    assert all(row.visual is None and row.sound is not None for row in found.segments)
    assert found.segments[0].text == "Knead the dough. Tune the guitar."


def test_an_embedded_subtitle_track_is_the_transcript_where_none_was_sent(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", subtitles=(Cue(2.1, 3.9, "hello there"),))
    found = analysed(path)
    assert [row.text for row in found.segments] == ["", "hello there", ""]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_text_file, "not_media"),
        (make_truncated_video, "truncated"),
        (make_empty_file, "empty"),
    ],
)
def test_what_is_no_video_is_refused_with_the_reason(tmp_path: Path, make, reason: str) -> None:
    with pytest.raises(MediaRefused) as refused:
        analysed(make(tmp_path / "a.mp4"))
    assert refused.value.reason == reason


def test_a_video_over_the_longest_duration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaRefused, match="6 s long") as refused:
        analysed(make_video(tmp_path / "a.mp4"), settings=Settings(max_duration_s=5))
    assert refused.value.reason == "too_long"


def test_a_broken_transcript_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"a\.srt, line 2"):
        analysed(
            make_video(tmp_path / "a.mp4"),
            transcript=b"1\n00:00:xx --> 00:00:02,000\nhello\n",
            transcript_name="a.srt",
        )


def test_no_chunk_is_over_its_limit_and_few_are_in_flight(tmp_path: Path) -> None:
    embedder = ProjectingEmbedder()
    settings = Settings(max_chunk_frames=4)
    path = make_video(tmp_path / "a.mp4", duration_s=30, gop=25, keyframes_at_cuts=False)
    found = analysed(path, embedder, settings, pix=200)
    assert all(len(chunk.frame_indices) <= 4 for chunk in embedder.chunks)
    assert len(embedder.chunks) > 3
    assert all(len(frames) <= 4 for frames in embedder.decoded)
    assert embedder.most_at_once <= 3
    chosen = sum(int((chunk.frame_weights > 0).sum()) for chunk in embedder.chunks)
    assert found.counts.frames == chosen + found.counts.decoded_frames


@pytest.mark.parametrize(
    "make",
    [
        lambda path: make_video(path, duration_s=12),
        lambda path: make_video(path, duration_s=12, gop=10, start_s=3.7),
        lambda path: make_video(path, size=(160, 90), rotation=90, duration_s=6),
    ],
    ids=["keyframes at cuts", "many keyframes, late start", "turned"],
)
def test_frames_that_were_looked_at_for_cuts_are_the_frames_that_would_be_decoded(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "a.mp4")
    embedder = ProjectingEmbedder()
    once = analysed(path, embedder)
    twice = analysed(path, settings=Settings(decode_once=False))
    assert once.counts.decoded_frames == sum(map(len, embedder.decoded)) > 0
    assert twice.counts.decoded_frames == 0
    for name in ARRAYS:
        here, there = getattr(once.tokens, name), getattr(twice.tokens, name)
        # Sound is decoded from elsewhere on, because its chunk has fewer pictures; other batches of
        # frames round otherwise.
        np.testing.assert_allclose(here, there, atol=0.01 if name == "audio" else 1e-6)


def test_a_picture_that_is_hardly_shrunk_is_decoded_with_all_its_filters(tmp_path: Path) -> None:
    small = make_video(tmp_path / "a.mp4", size=(64, 40))
    assert analysed(small).counts.decoded_frames == 0


def test_frames_that_are_kept_take_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.scenes.MAX_FRAME_BYTES", 12_000)  # two frames of 57 by 32
    path = make_video(tmp_path / "a.mp4", duration_s=12, gop=10)
    embedder = ProjectingEmbedder()
    found = analysed(path, embedder)
    assert found.counts.decoded_frames == sum(map(len, embedder.decoded)) <= 2
    assert found.counts.frames > 2


def test_an_embedder_that_fails_ends_the_analysis(tmp_path: Path) -> None:
    class Failing(ProjectingEmbedder):
        def _embed(self, chunk: ChunkInput) -> ChunkEmbeddings:
            raise Unavailable("triton", f"gone with {len(chunk.data)} bytes")

    with pytest.raises(Unavailable, match="gone"):
        analysed(make_video(tmp_path / "a.mp4"), Failing())


def test_tokens_come_back_as_they_were_written(tmp_path: Path) -> None:
    tokens = analysed(make_video(tmp_path / "a.mp4"), transcript=SRT).tokens
    tokens.write(tmp_path / "tokens.npz")
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    again = read_tokens(tmp_path / "tokens.npz", BUNDLE)
    np.testing.assert_allclose(again.frames, tokens.frames, atol=1e-3)
    np.testing.assert_array_equal(again.frame_times_s, tokens.frame_times_s)
    np.testing.assert_array_equal(again.text_segments, [0, 1])
    assert again.segment_starts_s.tolist() == [0.0, 2.0, 4.0]


def test_tokens_of_another_bundle_or_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.npz"
    tokens = analysed(make_video(tmp_path / "a.mp4")).tokens
    replace(tokens, model_version="other-2").write(path)
    with pytest.raises(ConfigurationError, match="other-2"):
        read_tokens(path, BUNDLE)
    replace(tokens, frames=tokens.frames[:, :5]).write(path)
    with pytest.raises(ConfigurationError, match="frames has shape"):
        read_tokens(path, BUNDLE)
    replace(tokens, audio_times_s=tokens.audio_times_s[:1]).write(path)
    with pytest.raises(ConfigurationError, match="audio_times_s"):
        read_tokens(path, BUNDLE)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ConfigurationError, match="ingest again"):
        read_tokens(path, BUNDLE)
