import asyncio
import importlib.util
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

import ingest.transcripts.speech
from ensembles.arrays import FloatArray
from gateway.errors import ConfigurationError, ModelFailed, NotFound
from gateway.settings import Settings
from ingest.media import MediaInfo
from ingest.probe import probe
from ingest.transcripts.recogniser_child import Stretch, whole
from ingest.transcripts.speech import find_model, recognise
from ingest.transcripts.stretches import decode_stretch
from ingest.transcripts.words import Speech
from tests.media import make_sound, make_video
from tests.whispers import (
    LANGUAGE,
    RATE_HZ,
    SPOKEN,
    processes,
    silence,
    spoken,
    voice,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sandbox")]

PAUSED_S = ((2.0, 7.0), (10.0, 14.0))  # where somebody speaks


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = (silence(2), voice(5), silence(3), voice(4, seed=1), silence(2))
    return spoken(tmp_path_factory.mktemp("talk") / "talk.mp4", *parts)


class Decoded(list[tuple[float, float]]):
    """Which stretches of a file were decoded: start and length, s."""

    def before(self, number: int) -> None:
        """Do something before the stretch of this number, from 1 on, is sent to be heard."""


@pytest.fixture
def stretches(monkeypatch: pytest.MonkeyPatch) -> Decoded:
    decoded = Decoded()

    def noted(path: Path, info: MediaInfo, start_s: float, length_s: float) -> FloatArray:
        decoded.append((start_s, length_s))
        decoded.before(len(decoded))
        return decode_stretch(path, info, start_s, length_s)

    monkeypatch.setattr(ingest.transcripts.speech, "decode_stretch", noted)
    return decoded


async def heard(path: Path, model: Path, kept: Path | None = None, **how: object) -> Speech:
    window_s = how.pop("window_s", 300.0)
    tell = how.pop("tell", lambda _: None)
    settings = Settings(whisper=str(model), **how)  # type: ignore[arg-type]
    info = await asyncio.to_thread(probe, path)
    return await recognise(path, info, settings, kept, tell, window_s)  # type: ignore[arg-type]


def said(speech: Speech) -> str:
    return "".join(word.text for word in speech.words)


# ---- what is heard ------------------------------------------------------------------------------


async def test_words_are_heard_in_order_where_somebody_speaks(talk: Path, whisper: Path) -> None:
    shares: list[float] = []
    speech = await heard(talk, whisper, tell=shares.append)
    assert said(speech) == SPOKEN
    assert (speech.language, speech.language_probability) == (LANGUAGE, pytest.approx(1, abs=0.01))
    times = [time for word in speech.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    for word in speech.words:
        middle_s = (word.start_s + word.end_s) / 2
        assert any(start_s - 0.5 <= middle_s <= end_s + 0.5 for start_s, end_s in PAUSED_S)
        assert 0 <= word.probability <= 1
    assert shares
    assert shares == sorted(shares)
    assert shares[-1] <= 1
    assert processes() == []


async def test_where_nobody_speaks_nothing_is_heard(tmp_path: Path, whisper: Path) -> None:
    path = spoken(tmp_path / "silence.wav", silence(4))
    speech = await heard(path, whisper)
    assert (speech.words, speech.language) == ((), None)
    assert speech.heard_s == pytest.approx(4, abs=0.1)


async def test_a_fixed_language_is_not_guessed(talk: Path, whisper: Path) -> None:
    speech = await heard(talk, whisper, whisper_language="de")
    assert (speech.language, speech.language_probability) == ("de", 1)


async def test_long_sound_is_heard_a_window_at_a_time_and_no_window_ends_inside_speech(
    talk: Path, whisper: Path, stretches: Decoded
) -> None:
    speech = await heard(talk, whisper, window_s=11.0)
    assert said(speech) == SPOKEN * 2
    (first_s, first_length_s), (second_s, second_length_s) = stretches
    assert (first_s, first_length_s) == (0, 11)
    assert 7 < second_s <= 10.2  # the speech that the first window cut is heard whole
    assert second_s + second_length_s == pytest.approx(speech.heard_s)
    ends = [word.end_s for word in speech.words]
    assert ends == sorted(ends)
    assert ends[-1] <= speech.heard_s


def test_speech_that_a_window_cuts_is_left_to_the_next_one() -> None:
    stretches = [Stretch(1_000, 40_000), Stretch(100_000, 160_000)]
    assert whole(stretches, 160_000, False) == (stretches[:1], 100_000)
    assert whole(stretches, 160_000, True) == (stretches, 160_000)
    assert whole(stretches, 200_000, False) == (stretches, 200_000)
    assert whole([], 160_000, False) == ([], 160_000)


def test_speech_without_a_pause_does_not_stop_the_way() -> None:
    stretches = [Stretch(0, 160_000)]
    assert whole(stretches, 160_000, False) == (stretches, 160_000)


# ---- what is kept -------------------------------------------------------------------------------


async def test_an_interrupted_try_goes_on_after_the_last_window(
    talk: Path, whisper: Path, tmp_path: Path, stretches: Decoded
) -> None:
    kept = tmp_path / "words.json"
    loop, second = asyncio.get_running_loop(), asyncio.Event()

    def stop_hearing(number: int) -> None:
        if number == 2:
            (process,) = processes()
            process.suspend()
            loop.call_soon_threadsafe(second.set)

    stretches.before = stop_hearing  # type: ignore[method-assign]
    trying = asyncio.create_task(heard(talk, whisper, kept, window_s=11.0))
    await second.wait()
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    assert processes() == []

    resumed = await heard(talk, whisper, kept, window_s=11.0)
    assert stretches[2] == stretches[1]
    assert resumed == await heard(talk, whisper, window_s=11.0)
    assert resumed == msgspec.json.decode(kept.read_bytes(), type=Speech)


async def test_what_was_heard_whole_is_not_heard_again(
    talk: Path, whisper: Path, tmp_path: Path, stretches: Decoded
) -> None:
    kept = tmp_path / "words.json"
    speech = await heard(talk, whisper, kept)
    assert await heard(talk, whisper, kept) == speech
    assert len(stretches) == 1


@pytest.mark.parametrize("change", ["damaged", "another language"])
async def test_what_cannot_be_used_is_heard_anew(
    talk: Path, whisper: Path, tmp_path: Path, change: str
) -> None:
    kept = tmp_path / "words.json"
    speech = await heard(talk, whisper)
    if change == "damaged":
        kept.write_bytes(msgspec.json.encode(speech)[:200])
    else:
        other = msgspec.structs.replace(speech, recogniser=f"{speech.recogniser} de", words=())
        kept.write_bytes(msgspec.json.encode(other))
    assert await heard(talk, whisper, kept) == speech


async def test_of_a_video_that_is_deleted_meanwhile_nothing_is_kept(
    talk: Path, whisper: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="was deleted"):
        await heard(talk, whisper, tmp_path / "gone" / "words.json")
    assert not (tmp_path / "gone").exists()


# ---- what goes wrong ----------------------------------------------------------------------------


async def test_a_process_that_is_killed_is_started_again(
    talk: Path, whisper: Path, stretches: Decoded
) -> None:
    def kill_once(number: int) -> None:
        if number == 1:
            (process,) = processes()
            process.kill()

    stretches.before = kill_once  # type: ignore[method-assign]
    assert said(await heard(talk, whisper)) == SPOKEN
    assert len(stretches) == 2


async def test_a_process_that_dies_again_and_again_is_given_up(
    talk: Path, whisper: Path, stretches: Decoded
) -> None:
    def kill(_: int) -> None:
        for process in processes():
            process.kill()

    stretches.before = kill  # type: ignore[method-assign]
    with pytest.raises(ModelFailed, match=r"died 2 times at 0 s"):
        await heard(talk, whisper)


async def test_a_language_that_is_none_is_told(talk: Path, whisper: Path) -> None:
    with pytest.raises(ModelFailed, match="not a valid language code"):
        await heard(talk, whisper, whisper_language="klingon")


def test_without_the_extra_the_message_says_what_to_install(
    whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'pixserve\[whisper\]'"):
        find_model(Settings(whisper=str(whisper)))


def test_a_missing_folder_is_told_with_the_files_that_belong_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no folder .*model\.bin.*WHISPER_REVISION"):
        find_model(Settings(whisper=str(tmp_path / "nothing")))


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json", "vocabulary.json", "config.json"])
def test_a_missing_file_is_named(whisper: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "whisper"
    shutil.copytree(whisper, folder)
    (folder / name).unlink()
    with pytest.raises(ConfigurationError, match=f"whisper lacks {name}; expected"):
        find_model(Settings(whisper=str(folder)))


def test_a_model_of_the_hub_needs_a_commit() -> None:
    model = find_model(Settings(whisper="Systran/faster-whisper-small", whisper_revision="536b06"))
    assert (model.model, model.revision) == ("Systran/faster-whisper-small", "536b06")


@pytest.mark.parametrize("damage", ["truncated", "garbage"])
async def test_a_broken_model_is_told(
    talk: Path, whisper: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "whisper"
    shutil.copytree(whisper, folder)
    whole_file = (folder / "model.bin").read_bytes()
    broken = whole_file[:100_000] if damage == "truncated" else b"\xff" * 1_000
    (folder / "model.bin").write_bytes(broken)
    with pytest.raises(ConfigurationError, match="cannot be loaded on cpu as int8"):
        await heard(talk, folder)
    assert processes() == []


# ---- stretches of sound -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "aac"),
        ("a.mkv", "libopus"),
        ("a.webm", "libopus"),
        ("a.mp3", "mp3"),
        ("a.ogg", "libopus"),
        ("a.flac", "flac"),
        ("a.wav", "pcm_s16le"),
    ],
)
def test_a_stretch_sounds_as_it_does_in_the_whole_file(
    tmp_path: Path, name: str, codec: str
) -> None:
    video = {".mp4": "libx264", ".mkv": "libx264", ".webm": "libvpx"}.get(Path(name).suffix)
    path = make_video(tmp_path / name, video_codec=video, audio_codec=codec, duration_s=9)
    info = probe(path)
    all_of_it = decode_stretch(path, info, 0, 9)
    stretch = decode_stretch(path, info, 2.5, 2.0)
    assert stretch.shape == (2 * RATE_HZ,)
    part = all_of_it[int(2.5 * RATE_HZ) : int(4.5 * RATE_HZ)]
    assert np.abs(part).max() > 0.1
    assert likeness(part, stretch) > 0.99


def likeness(ours: FloatArray, theirs: FloatArray) -> float:
    """Return the correlation of two sounds, a millisecond apart at most: Matroska's precision."""
    reach = RATE_HZ // 1000
    inner = slice(reach, -reach)
    shifted = (np.roll(ours, by) for by in range(-reach, reach + 1))
    return max(float(np.corrcoef(s[inner], theirs[inner])[0, 1]) for s in shifted)


def test_a_file_that_begins_late_is_heard_on_the_players_clock(tmp_path: Path) -> None:
    late = make_video(tmp_path / "late.mkv", start_s=3.0)
    usual = make_video(tmp_path / "usual.mkv")
    ours, theirs = (decode_stretch(path, probe(path), 1.5, 1.0) for path in (late, usual))
    assert likeness(ours, theirs) > 0.99


def test_after_the_end_there_is_silence(tmp_path: Path) -> None:
    path = make_sound(tmp_path / "a.m4a", duration_s=3)
    stretch = decode_stretch(path, probe(path), 1, 4)
    assert np.abs(stretch[: RATE_HZ // 2]).max() > 0.1
    assert np.abs(stretch[3 * RATE_HZ :]).max() == 0
