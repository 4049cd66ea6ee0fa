"""The corpus: what is held out, that captions tell segments apart, and what is drawn and heard."""

from collections import Counter
from dataclasses import replace
from random import Random

import av
import numpy as np
import pytest
import torch

from training.corpus import (
    EVALUATION_SEGMENTS,
    HELD_OUT_TEMPOS,
    evaluation_set,
    held_out_look,
    held_out_sound,
    training_batch,
)
from training.world import scenes
from training.world.captions import KINDS, captions, describe
from training.world.drawing import draw, geometry
from training.world.hearing import LOUDNESS, synthesise
from training.world.scenes import (
    ATTRIBUTES,
    Figure,
    Look,
    Segment,
    Sound,
    attributes,
    encode,
    fit_matrix,
    fits,
)
from training.world.topics import TOPICS
from training.world.videos import BOUNDARIES, FPS, read_boundaries, srt, write_videos
from training.world.words import ACROSS, ANY_EVENT, BEDS, COLOURS, EVENTS, MOTIONS, SHAPES, SPEAKERS

CIRCLE = Figure("circle", "red", "medium", "one", "plain", "middle", "middle")
LOOK_NAMES = tuple(scenes.LOOK)
LOOK = Look(CIRCLE, None, "plain", "blue", "clear", "day", "still", "static", seed=5)
BEEP = Sound("beep", "middle", "slow", "quiet", "steady", seed=3)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two threads wait for each other where other tests run beside these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def described():
    return evaluation_set(seed=1, n=200)


def codes_of(rows) -> np.ndarray:
    return np.stack([encode(attributes(row.segment)) for row in rows])


def test_the_evaluation_set_has_a_thousand_segments_unless_told_otherwise():
    assert EVALUATION_SEGMENTS == 1000


def test_the_same_seed_gives_the_same_set_and_another_seed_another(described):
    assert evaluation_set(seed=1, n=200) == described
    assert evaluation_set(seed=2, n=40) != described[:40]


def test_every_evaluation_caption_fits_exactly_one_segment(described):
    for number, row in enumerate(described):
        for caption in row.captions:
            fitting = fit_matrix(encode(caption.attributes)[None], codes_of(described))[0]
            assert np.flatnonzero(fitting).tolist() == [number], caption
            assert fits(caption.attributes, row.segment)


def test_the_evaluation_set_asks_by_every_kind(described):
    counts = Counter(caption.kind for row in described for caption in row.captions)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 50


def test_mixed_queries_need_more_than_what_is_seen(described):
    looks = [
        encode(
            {name: caption.attributes[name] for name in LOOK_NAMES if name in caption.attributes}
        )
        for row in described
        for caption in row.captions
        if caption.kind == "mixed"
    ]
    assert looks
    assert fit_matrix(np.stack(looks), codes_of(described)).sum(axis=1).min() > 1


def test_every_evaluation_segment_has_a_held_out_combination_and_so_has_its_sound(described):
    assert all(held_out_look(row.segment.look) for row in described)
    sounds = [row.segment.sound for row in described if row.segment.sound]
    assert sounds
    assert all(held_out_sound(sound) for sound in sounds)


def test_training_never_sees_or_hears_a_held_out_combination():
    for step in range(20):
        for segment in training_batch(seed=1, step=step, size=64):
            assert not held_out_look(segment.look)
            assert segment.sound is None or not held_out_sound(segment.sound)


def test_training_sees_every_value_of_every_attribute():
    seen = np.stack([encode(attributes(s)) for s in training_batch(seed=1, step=0, size=3000)])
    for name, values, column in zip(ATTRIBUTES, ATTRIBUTES.values(), seen.T, strict=True):
        assert set(range(len(values))) <= set(column.tolist()), name


def test_hard_negatives_differ_in_one_thing_only(described):
    codes = codes_of(described)[:, : len(LOOK_NAMES)]
    differing = (codes[:, None] != codes[None]).sum(axis=2)
    assert (differing == 1).any(axis=1).mean() > 0.1


def test_a_step_sees_the_same_segments_again_and_another_step_others():
    assert training_batch(1, 5, 8) == training_batch(1, 5, 8)
    assert training_batch(1, 5, 8) != training_batch(1, 6, 8)
    assert training_batch(2, 5, 8) != training_batch(1, 5, 8)


def test_a_caption_says_only_what_is_so():
    rng = Random(1)
    for segment in training_batch(1, 0, 100):
        for kind in KINDS:
            caption = describe(segment, kind, rng)
            assert caption is None or fits(caption.attributes, segment)


def test_a_kind_that_does_not_apply_gives_no_caption():
    silent = Segment(LOOK, sound=None, speech=None)
    assert [captions(silent, kind, Random(1)) for kind in ("sound", "speech", "mixed")] == [""] * 3


def test_captions_use_many_wordings():
    segment = Segment(LOOK, BEEP, None)
    rng = Random(2)
    texts = {captions(segment, "object", rng) for _ in range(200)}
    assert len(texts) > 50
    joined = " ".join(texts)
    assert all(word in joined for word in SHAPES["circle"])


def test_every_value_has_its_words():
    tables = {
        "shape": SHAPES, "colour": COLOURS, "motion": MOTIONS, "event": EVENTS, "bed": BEDS,
        "speaker": SPEAKERS, "across": ACROSS,
    }  # fmt: skip
    for name, table in tables.items():
        assert set(table) == set(ATTRIBUTES[name])
    assert ANY_EVENT
    assert all(aspect.said and aspect.asked for a in TOPICS.values() for aspect in a.values())


def test_what_moves_has_no_place_and_what_grows_no_size():
    still = attributes(Segment(LOOK, None, None))
    assert {"size", "across", "down"} <= set(still)
    moving = attributes(Segment(replace(LOOK, motion="left"), None, None))
    assert "across" not in moving
    growing = attributes(Segment(replace(LOOK, motion="grows"), None, None))
    assert "size" not in growing


def red(picture: np.ndarray) -> np.ndarray:
    return (picture[0] > 150) & (picture[2] < 100)


def test_pictures_have_the_shape_that_is_asked_for_and_are_the_same_every_time():
    pictures = draw(LOOK, [0.0, 1.0], (48, 64))
    assert pictures.shape == (2, 3, 48, 64)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures, draw(LOOK, [0.0, 1.0], (48, 64)))


@pytest.mark.parametrize(
    ("motion", "axis", "sign"), [("left", 1, -1), ("right", 1, 1), ("up", 0, -1), ("down", 0, 1)]
)
def test_what_moves_ends_up_on_the_other_side(motion, axis, sign):
    first, last = draw(replace(LOOK, motion=motion), [0.5, 4.5], (96, 96))
    way = np.argwhere(red(last)).mean(axis=0)[axis] - np.argwhere(red(first)).mean(axis=0)[axis]
    assert way * sign > 20


@pytest.mark.parametrize(("motion", "ratio"), [("grows", 2.0), ("shrinks", 0.5)])
def test_what_grows_covers_more_and_what_shrinks_less(motion, ratio):
    first, last = draw(replace(LOOK, motion=motion), [0.5, 4.5], (96, 96))
    covered = red(last).sum() / red(first).sum()
    assert covered > ratio if ratio > 1 else covered < ratio


def test_figures_stay_inside_the_square_that_encoders_see():
    for segment in training_batch(1, 2, 200):
        for time_s in (0.0, 2.5, 5.0):
            found = geometry(segment.look, time_s)
            assert max(abs(found.x), abs(found.y)) + 0.7 * found.radius <= 1.0


def test_weather_light_and_textures_change_the_picture():
    plain = draw(LOOK, [1.0], (96, 96))
    for change in (
        {"weather": "rain"},
        {"weather": "snow"},
        {"weather": "fog"},
        {"light": "night"},
    ):
        assert np.abs(draw(replace(LOOK, **change), [1.0], (96, 96)) - plain.astype(int)).max() > 40
    for texture in ("striped", "dotted", "checked"):
        look = replace(LOOK, figure=replace(CIRCLE, texture=texture))
        assert red(draw(look, [1.0], (96, 96))[0]).sum() < red(plain[0]).sum()


def test_sounds_have_their_length_and_loudness_and_are_the_same_every_time():
    sound = synthesise(BEEP, 2.0)
    assert sound.shape == (32_000,)
    assert sound.dtype == np.float32
    assert 0.05 < np.abs(sound).max() <= LOUDNESS
    assert np.array_equal(sound, synthesise(BEEP, 2.0))


def peaks_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.fft.rfftfreq(len(samples), 1 / 16_000)[spectrum.argmax()])


def test_a_higher_pitch_is_higher():
    low, middle, high = (
        peaks_hz(synthesise(replace(BEEP, pitch=pitch), 2.0)) for pitch in ATTRIBUTES["pitch"]
    )
    assert low * 2 < middle < high / 2


def test_a_faster_tempo_has_more_events():
    def events(tempo: str) -> int:
        loud = np.abs(synthesise(replace(BEEP, tempo=tempo), 4.0)).reshape(-1, 400).max(axis=1)
        return int((np.diff((loud > 0.05).astype(int)) == 1).sum())

    assert events("slow") < events("moderate") < events("fast")


def test_what_gets_louder_is_louder_at_its_end_and_what_fades_softer():
    def ratio(swell: str) -> float:
        first, last = np.split(synthesise(replace(BEEP, swell=swell), 5.0), 2)
        return float(np.abs(last).mean() / np.abs(first).mean())

    assert ratio("louder") > 2
    assert ratio("softer") < 0.5


def test_every_event_sounds_unlike_the_others():
    events = [event for event in ATTRIBUTES["event"] if event != "falling"]  # rising, turned round
    spectra = [np.abs(np.fft.rfft(synthesise(replace(BEEP, event=e), 2.0))) for e in events]
    for one in range(len(spectra)):
        for other in range(one):
            assert np.corrcoef(spectra[one], spectra[other])[0, 1] < 0.999


@pytest.mark.parametrize(("event", "sign"), [("rising", 1), ("falling", -1)])
def test_a_sweep_goes_its_way(event, sign):
    windows = synthesise(replace(BEEP, event=event), 4.0).reshape(-1, 800)
    loud = np.abs(windows).max(axis=1) > 0.1
    steps = np.diff([peaks_hz(window) for window in windows])[loud[1:] & loud[:-1]]
    assert (np.sign(steps) == sign).sum() > 2 * (np.sign(steps) == -sign).sum()


def test_every_bed_is_heard_beside_the_event():
    quiet = synthesise(BEEP, 2.0)
    for bed in ATTRIBUTES["bed"][1:]:
        rest = synthesise(replace(BEEP, bed=bed), 2.0) - quiet
        assert np.sqrt(np.mean(rest**2)) > 0.02


def test_each_event_is_held_out_at_one_tempo_and_trained_at_the_others():
    assert sorted(event for event, _ in HELD_OUT_TEMPOS) == sorted(ATTRIBUTES["event"])


def test_videos_hold_their_segments_with_a_cut_at_each(tmp_path, described):
    segments = described[:3]
    written = write_videos(tmp_path, segments, a_video=2)
    assert [(row.video, row.start_s, row.end_s) for row in written] == [
        ("corpus-0000.mp4", 0.0, 5.0),
        ("corpus-0000.mp4", 5.0, 10.0),
        ("corpus-0001.mp4", 0.0, 5.0),
    ]
    assert read_boundaries(tmp_path) == written
    assert (tmp_path / BOUNDARIES).is_file()
    assert not list(tmp_path.glob("*.unfinished*"))
    with av.open(str(tmp_path / "corpus-0000.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        frames = list(container.decode(video=0))
    assert len(frames) == 10 * FPS
    assert frames[5 * FPS].key_frame


def test_transcripts_lie_inside_their_segments(described):
    spoken = [row.segment for row in described if row.segment.speech][:2]
    text = srt(spoken)
    assert "00:00:00,200 --> 00:00:04,800" in text
    assert "00:00:05,200 --> 00:00:09,800" in text
    assert all(segment.speech and segment.speech.transcript in text for segment in spoken)
    assert srt([Segment(LOOK, None, None)]) == ""
