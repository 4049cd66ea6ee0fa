"""The demo's videos, transcripts and example searches."""

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import get_args

import av
import msgspec
import numpy as np
import numpy.typing as npt
import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.demo.pictures import Painter
from deploy.demo.render import FPS, DemoVideo, content_key, render_all
from deploy.demo.show import frame_png
from deploy.demo.sounds import LOUDNESS, RATE_HZ, scene_sound
from deploy.demo.topics import (
    Actor,
    Backdrop,
    Cue,
    Flight,
    Motion,
    Scene,
    Shape,
    Sound,
    SoundKind,
    TextQuery,
    Topic,
    read_queries,
    read_topics,
    srt,
    vtt,
)
from tests.media import make_empty_file

SMALL = (160, 88)
TOPICS = {topic.name: topic for topic in read_topics()}
PASSAGES = {(t.name, cue.start_s): cue.text for t in TOPICS.values() for cue in t.cue}
RENDERED = ("sourdough", "black_holes", "beekeeping", "coffee", "glacier", "kite", "neon")

# Words that carry no topic of their own.
STOP_TEXT = """
a about all an and any are as at be but by can could did do does doing down each for from get goes
had has have how i if in into is it its me more most my no not of off on one or other our out over
should so some than that the their them then there these they this those to too under up was we
what when where which while who why will with would you your
"""
STOP_WORDS = frozenset(STOP_TEXT.split())
SUFFIXES = ("ations", "ation", "ings", "ing", "edly", "ies", "ied", "ed", "es", "ly", "er", "s")


def stem(word: str) -> str:
    """Return a word less its usual ending, so that `baked`, `bakes` and `baking` are one."""
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word.removesuffix(suffix)
            break
    doubled = len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls"
    return word[:-1] if doubled else word.rstrip("ey")


def stems(text: str) -> set[str]:
    return {stem(word) for word in re.findall(r"[a-z]+", text.lower()) if word not in STOP_WORDS}


def first_scene(topic: Topic) -> Topic:
    """Return the topic cut down to its first scene, so that it renders in a moment."""
    scene = topic.scene[0]
    cues = tuple(cue for cue in topic.cue if cue.end_s <= scene.end_s)
    return msgspec.structs.replace(topic, scene=(scene,), cue=cues)


def first_scenes() -> tuple[Topic, ...]:
    return tuple(first_scene(TOPICS[name]) for name in RENDERED)


def ignore_progress(name: str, done: int, total: int) -> None:
    """Take a report of the renderer and do nothing with it."""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DemoVideo]:
    out = tmp_path_factory.mktemp("demo")
    videos = render_all(out, ignore_progress, topics=first_scenes(), size=SMALL)
    return {video.name: video for video in videos}


# ---- what the tables say ------------------------------------------------------------------------


def test_there_are_at_least_twelve_videos_of_twenty_to_ninety_seconds() -> None:
    assert len(TOPICS) >= 12
    assert all(20 <= topic.duration_s <= 90 for topic in TOPICS.values())
    assert all(len(topic.scene) >= 3 for topic in TOPICS.values())


def test_the_set_covers_the_containers_codecs_and_transcripts() -> None:
    made = {(topic.file.rpartition(".")[2], topic.video_codec) for topic in TOPICS.values()}
    assert {("mp4", "libx264"), ("mp4", "libx265"), ("mov", "libx264")} <= made
    assert {("webm", "libvpx-vp9"), ("mkv", "libx264")} <= made
    assert {topic.transcript for topic in TOPICS.values()} == {"srt", "vtt", "embedded", "none"}
    assert any(topic.audio_codec is None for topic in TOPICS.values())


def test_videos_differ_in_creator_title_and_pix() -> None:
    metadata = [topic.metadata for topic in TOPICS.values()]
    assert len({m.creator_id for m in metadata}) == len(metadata)
    assert len({m.title for m in metadata}) == len(metadata)
    assert len({m.pix for m in metadata}) == len(metadata)
    assert len({m.category for m in metadata}) >= 8


def test_every_passage_is_said_once_for_four_to_eight_seconds() -> None:
    assert len(set(PASSAGES.values())) == len(PASSAGES)
    lengths = [cue.end_s - cue.start_s for t in TOPICS.values() for cue in t.cue]
    assert all(4 <= length <= 8 for length in lengths)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="colour_space"):
        msgspec.convert({**as_table(TOPICS["kite"]), "colour_space": "bt709"}, Topic)


def test_overlapping_cues_are_refused() -> None:
    cues = (Cue(start_s=0, end_s=5, text="one"), Cue(start_s=4, end_s=8, text="two"))
    with pytest.raises(ValueError, match="before the one before has ended"):
        msgspec.structs.replace(TOPICS["kite"], cue=cues).check()


def test_a_cue_after_the_end_is_refused() -> None:
    cues = (Cue(start_s=0, end_s=500, text="one"),)
    with pytest.raises(ValueError, match="after the video"):
        msgspec.structs.replace(TOPICS["kite"], cue=cues).check()


def as_table(topic: Topic) -> dict[str, object]:
    return msgspec.convert(msgspec.to_builtins(topic), dict[str, object])


# ---- the example searches -----------------------------------------------------------------------


def test_there_are_at_least_twenty_paraphrases_over_most_videos() -> None:
    queries = read_queries().paraphrase
    assert len({query.text for query in queries}) == len(queries) >= 20
    assert len({query.video for query in queries}) >= 12


def test_a_query_names_the_times_of_a_passage() -> None:
    queries = read_queries()
    for query in (*queries.paraphrase, *queries.keyword):
        ends = {cue.start_s: cue.end_s for cue in TOPICS[query.video].cue}
        assert ends[query.start_s] == query.end_s, query.text


@pytest.mark.parametrize("query", read_queries().paraphrase, ids=lambda query: query.text)
def test_a_paraphrase_shares_no_content_word_with_its_answer(query: TextQuery) -> None:
    metadata = TOPICS[query.video].metadata
    answer = f"{PASSAGES[query.video, query.start_s]} {metadata.title} {' '.join(metadata.tags)}"
    assert not stems(query.text) & stems(answer)


def test_the_stem_rule_sees_through_inflection() -> None:
    assert stems("baked bakes baking a bake") == {stem("bake")}
    assert stems("stopping stops stopped") == {stem("stop")}
    assert stems("colonies colony") == {stem("colony")}
    assert stems("the volcano's eruptions erupt") >= {stem("eruption"), stem("volcano")}


@pytest.mark.parametrize(
    ("start_s", "end_s", "right"),
    [(10, 15, True), (8, 13, True), (11, 12, True), (0, 60, True), (6, 11, False), (15, 20, False)],
)
def test_a_moment_is_right_when_it_shares_most_of_itself(
    start_s: float, end_s: float, right: bool
) -> None:
    query = TextQuery(text="any", video="kite", start_s=10, end_s=15)
    assert query.is_answered_by(start_s, end_s) is right


def test_a_keyword_stands_in_its_passage_and_nowhere_else() -> None:
    for query in read_queries().keyword:
        rare = stems(query.text)
        holders = {key for key, text in PASSAGES.items() if rare <= stems(text)}
        assert holders == {(query.video, query.start_s)}, query.text


def test_the_invested_video_starts_with_less_pix_than_the_leading_one() -> None:
    pix = read_queries().pix
    assert TOPICS[pix.raised].metadata.pix < TOPICS[pix.leading].metadata.pix


# ---- pictures and sounds ------------------------------------------------------------------------


def test_every_scene_looks_different_from_every_other() -> None:
    looks = {
        (topic.name, number): thumbnail(scene)
        for topic in TOPICS.values()
        for number, scene in enumerate(topic.scene)
    }
    distances = {
        (a, b): float(np.abs(looks[a] - looks[b]).mean()) for a, b in combinations(looks, 2)
    }
    nearest = min(distances, key=lambda pair: distances[pair])
    assert distances[nearest] > 8, f"{nearest} differ by {distances[nearest]:.1f} of 255"


def thumbnail(scene: Scene) -> npt.NDArray[np.float32]:
    frame = Painter(scene, SMALL, seed=1).frame(3.0)
    rgb = av.VideoFrame.from_ndarray(frame, format="yuv420p").to_ndarray(format="rgb24")
    return rgb[::4, ::4].astype(np.float32)


def literal(kind: object) -> st.SearchStrategy[str]:
    return st.sampled_from(get_args(kind))


colours = st.from_regex(r"#[0-9a-f]{6}", fullmatch=True)
actors = st.builds(
    Actor,
    shape=literal(Shape),
    path=literal(Flight),
    count=st.integers(1, 12),
    size_px=st.integers(8, 200),
    colour=colours,
)
scenes = st.builds(
    Scene,
    end_s=st.just(10.0),
    backdrop=literal(Backdrop),
    colours=st.tuples(colours, colours, colours),
    motion=literal(Motion),
    actor=st.none() | actors,
)


@settings(max_examples=60)
@given(scene=scenes, time_s=st.floats(0, 90), seed=st.integers(0, 2**32 - 1))
def test_any_scene_yields_full_pictures_in_the_legal_range(
    scene: Scene, time_s: float, seed: int
) -> None:
    frame = Painter(scene, SMALL, seed).frame(time_s)
    assert frame.shape == (SMALL[1] * 3 // 2, SMALL[0])
    assert frame.dtype == np.uint8
    assert frame.min() >= 16
    assert frame.max() <= 240


@pytest.mark.parametrize("kind", get_args(SoundKind))
def test_a_sound_is_heard_and_never_clips(kind: SoundKind) -> None:
    scene = msgspec.structs.replace(TOPICS["piano"].scene[0], sound=Sound(kind=kind, hz=150.0))
    sound = scene_sound(scene, 3.0, seed=3)
    assert sound.shape == (3 * RATE_HZ,)
    assert np.abs(sound).max() == pytest.approx(LOUDNESS, rel=0.05)
    assert np.sqrt((sound**2).mean()) > 0.001


# ---- rendered files -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", RENDERED)
def test_a_file_has_the_streams_and_the_length_of_its_topic(
    rendered: dict[str, DemoVideo], name: str
) -> None:
    topic = first_scene(TOPICS[name])
    codecs = {"libx264": "h264", "libx265": "hevc", "libvpx-vp9": "vp9"}
    with av.open(str(rendered[name].path)) as container:
        video = container.streams.video[0]
        assert video.codec_context.codec.canonical_name == codecs[topic.video_codec]
        assert (video.width, video.height) == SMALL
        sounds = [s.codec_context.codec.canonical_name for s in container.streams.audio]
        assert sounds == ([topic.audio_codec.removeprefix("lib")] if topic.audio_codec else [])
        assert container.duration == pytest.approx(topic.duration_s * 1e6, abs=0.1e6)


def test_the_mkv_carries_its_transcript(rendered: dict[str, DemoVideo]) -> None:
    topic = first_scene(TOPICS["beekeeping"])
    with av.open(str(rendered["beekeeping"].path)) as container:
        track = container.streams.subtitles[0]
        assert track.codec_context.name in ("srt", "subrip")
        lines = [
            (float((p.pts or 0) * p.time_base), float(p.duration * p.time_base), bytes(p).decode())
            for p in container.demux(track)
            if p.size
        ]
    assert [text for _, _, text in lines] == [cue.text for cue in topic.cue]
    for (start_s, length_s, _), cue in zip(lines, topic.cue, strict=True):
        assert start_s == pytest.approx(cue.start_s)
        assert start_s + length_s == pytest.approx(cue.end_s)


@pytest.mark.parametrize("write", [srt, vtt])
def test_a_transcript_file_reads_back_as_it_was(
    write: Callable[[tuple[Cue, ...]], str],
) -> None:
    cues = TOPICS["glacier"].cue
    read = pysubs2.SSAFile.from_string(write(cues))
    assert [line.text for line in read] == [cue.text for cue in cues]
    assert [line.start for line in read] == [round(cue.start_s * 1000) for cue in cues]
    assert [line.end for line in read] == [round(cue.end_s * 1000) for cue in cues]


def test_a_sidecar_lies_beside_the_video_of_its_name(rendered: dict[str, DemoVideo]) -> None:
    assert rendered["sourdough"].sidecar == rendered["sourdough"].path.with_suffix(".srt")
    assert rendered["black_holes"].sidecar == rendered["black_holes"].path.with_suffix(".vtt")
    assert rendered["beekeeping"].sidecar is None
    assert rendered["neon"].sidecar is None


def test_rendering_again_gives_the_same_bytes(
    rendered: dict[str, DemoVideo], tmp_path: Path
) -> None:
    again = render_all(tmp_path, ignore_progress, topics=first_scenes(), size=SMALL)
    for video in again:
        assert video.path.read_bytes() == rendered[video.name].path.read_bytes(), video.name


def test_what_is_there_is_kept_and_what_is_not_is_made(tmp_path: Path) -> None:
    topics = first_scenes()[:2]
    reports: list[tuple[str, int, int]] = []
    videos = render_all(tmp_path, ignore_progress, topics=topics, size=SMALL)
    stamps = [video.path.stat().st_mtime_ns for video in videos]
    assert videos[1].sidecar is not None
    videos[1].sidecar.unlink()
    render_all(tmp_path, lambda *report: reports.append(report), topics=topics, size=SMALL)
    assert videos[0].path.stat().st_mtime_ns == stamps[0]
    assert videos[1].path.stat().st_mtime_ns > stamps[1]
    assert videos[1].sidecar.is_file()
    assert reports == [("the demo videos", 1, 2), ("black_holes.webm", 2, 2)]
    assert not list(tmp_path.glob("*unfinished*"))


def test_another_size_or_text_is_another_file() -> None:
    topic = TOPICS["kite"]
    told = msgspec.structs.replace(topic, cue=topic.cue[:1])
    keys = {content_key(topic, SMALL), content_key(topic, (320, 180)), content_key(told, SMALL)}
    assert len(keys) == 3


def test_a_frame_for_an_image_query_is_the_frame_of_that_time(
    rendered: dict[str, DemoVideo],
) -> None:
    png = frame_png(rendered["sourdough"].path, 2.0)
    with av.open(str(rendered["sourdough"].path)) as container:
        frames = list(container.decode(video=0))
    wanted = frames[2 * FPS].to_ndarray(format="rgb24")
    packet = av.Packet(png)
    (image,) = av.CodecContext.create("png", "r").decode(packet)
    assert np.array_equal(image.to_ndarray(format="rgb24"), wanted)


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_1(tmp_path: Path) -> None:
    blocked = make_empty_file(tmp_path / "file")
    command = [sys.executable, "-m", "deploy.demo.run", "--once", "--data-dir", str(blocked)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"demo: {blocked / 'demo'}: Not a directory"]
