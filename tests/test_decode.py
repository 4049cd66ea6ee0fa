from pathlib import Path

import av
import numpy as np
import pytest

from ensembles.contracts import ABSENT, AUDIO_WINDOW_SAMPLES, MAX_AUDIO_SAMPLES
from gateway.errors import InvalidRequest, MediaLimitExceeded, MediaRefused
from ingest.decode import decode_frames, decode_image, decode_sound, decode_windows
from ingest.image import orient, read_head
from tests.media import (
    SCENES,
    draw,
    enormous_png,
    image_bytes,
    make_silent_video,
    make_sound,
    make_text_file,
    make_video,
    wav_bytes,
)


@pytest.fixture(scope="module")
def chunk(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_video(tmp_path_factory.mktemp("media") / "a.mp4").read_bytes()


def close(pixels, expected) -> bool:
    return float(np.abs(pixels.astype(float) - expected.astype(float)).mean()) < 12


def test_frames_are_those_in_presentation_order(chunk: bytes) -> None:
    frames = decode_frames(chunk, [0, 60, 149])
    assert frames.shape == (3, 180, 320, 3)
    for frame, scene, time_s in zip(frames, SCENES, (0.0, 2.4, 149 / 25), strict=True):
        assert close(frame, draw(scene, (320, 180), time_s))


def test_order_and_repetition_are_the_callers(chunk: bytes) -> None:
    frames = decode_frames(chunk, [60, 0, 60])
    np.testing.assert_array_equal(frames[0], frames[2])
    assert not np.array_equal(frames[0], frames[1])


def test_absent_frames_are_black(chunk: bytes) -> None:
    frames = decode_frames(chunk, [ABSENT, 0])
    assert not frames[0].any()
    assert frames[1].any()
    assert decode_frames(b"", [ABSENT], short_side_px=32).shape == (1, 32, 32, 3)


def test_frames_are_shrunk_to_the_short_side(chunk: bytes) -> None:
    assert decode_frames(chunk, [0], short_side_px=90).shape == (1, 90, 160, 3)
    assert decode_frames(chunk, [0], short_side_px=1000).shape == (1, 180, 320, 3)


@pytest.mark.parametrize(("turn", "quarter_turns"), [(90, -1), (180, 2), (270, 1)])
def test_rotation_is_applied(tmp_path: Path, turn: int, quarter_turns: int) -> None:
    path = make_video(tmp_path / "a.mp4", duration_s=0.4, rotation=turn)
    frame = decode_frames(path.read_bytes(), [0])[0]
    assert close(frame, np.rot90(draw(SCENES[0], (320, 180), 0), quarter_turns))


def test_pixels_become_square(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 180, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        container.mux(stream.encode(av.VideoFrame(160, 180, "yuv420p")))
        container.mux(stream.encode(None))
    assert decode_frames(path.read_bytes(), [0]).shape == (1, 180, 320, 3)


def test_an_index_out_of_range_is_refused(chunk: bytes) -> None:
    with pytest.raises(InvalidRequest, match="150 frames"):
        decode_frames(chunk, [150])
    with pytest.raises(InvalidRequest, match="64 are allowed"):
        decode_frames(chunk, [0] * 65)


def test_bytes_that_are_no_video_are_refused(tmp_path: Path) -> None:
    for data in (make_text_file(tmp_path / "a.mp4").read_bytes(), b"\0" * 100, image_bytes("png")):
        with pytest.raises(MediaRefused) as refused:
            decode_frames(data, [0])
        assert refused.value.reason == "not_media"


def test_damage_in_the_middle_costs_only_frames_nearby(chunk: bytes) -> None:
    damaged = bytearray(chunk)
    damaged[len(chunk) // 2 : len(chunk) // 2 + 2000] = bytes(2000)
    frames = decode_frames(bytes(damaged), [0, 75, 149])
    assert close(frames[0], draw(SCENES[0], (320, 180), 0))
    assert close(frames[2], draw(SCENES[2], (320, 180), 149 / 25))


@pytest.mark.parametrize("seed", range(4))
def test_damaged_sound_costs_only_its_own_time(tmp_path: Path, seed: int) -> None:
    path = make_sound(tmp_path / "a.m4a", duration_s=6)
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(seed)
    for at, size in sound_packets(path)[100:140]:
        data[at + int(random.integers(size))] ^= 1 << int(random.integers(8))
    windows = decode_windows(bytes(data), [0.0, 2.0])
    assert np.abs(windows[0]).max() > 0.1


def sound_packets(path: Path) -> list[tuple[int, int]]:
    """Where in the file each packet lies, and its size."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux() if packet.size]


def test_windows_hold_the_sound_of_their_time(chunk: bytes) -> None:
    windows = decode_windows(chunk, [0.0, 2.0, 5.0, ABSENT])
    assert windows.shape == (4, AUDIO_WINDOW_SAMPLES)
    assert [loudest_hz(window) for window in windows[:2]] == pytest.approx([330, 880], abs=3)
    assert np.abs(windows[2]).max() < 0.01  # a silent scene, then past the end
    assert not windows[3].any()


def test_a_window_past_the_end_is_filled_with_zeros(tmp_path: Path) -> None:
    path = make_sound(tmp_path / "a.mp4", duration_s=1.0, audio_codec="flac")
    window = decode_windows(path.read_bytes(), [0.0])[0]
    assert np.abs(window[:15_000]).max() > 0.3
    assert not window[17_000:].any()


def test_a_chunk_without_sound_has_no_windows(tmp_path: Path) -> None:
    silent = make_silent_video(tmp_path / "a.mp4", duration_s=1).read_bytes()
    assert not decode_windows(silent, [ABSENT]).any()
    with pytest.raises(MediaRefused) as refused:
        decode_windows(silent, [0.0])
    assert refused.value.reason == "no_sound"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_images_are_decoded_and_shrunk(kind) -> None:
    data = image_bytes(kind) + bytes(1000)  # padded, as in a batch
    assert close(decode_image(data), draw(SCENES[0], (320, 180), 0))
    assert decode_image(data, short_side_px=90).shape == (90, 160, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    data = image_bytes("jpeg")
    turned = data[:2] + exif(orientation) + data[2:]
    np.testing.assert_array_equal(decode_image(turned), orient(decode_image(data), orientation))
    assert read_head(turned).orientation == orientation


def test_orientations_turn_and_mirror_as_exif_says() -> None:
    # The stored pixels; orientation 6 is shown after a clockwise quarter turn, 8 the other way.
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(orient(stored, 1), stored)
    np.testing.assert_array_equal(orient(stored, 2), stored[:, ::-1])
    np.testing.assert_array_equal(orient(stored, 3), np.rot90(stored, 2))
    np.testing.assert_array_equal(orient(stored, 4), stored[::-1])
    np.testing.assert_array_equal(orient(stored, 5), stored.swapaxes(0, 1))
    np.testing.assert_array_equal(orient(stored, 6), np.rot90(stored, -1))
    np.testing.assert_array_equal(orient(stored, 7), np.rot90(stored, 2).swapaxes(0, 1))
    np.testing.assert_array_equal(orient(stored, 8), np.rot90(stored, 1))


def test_transparency_is_laid_over_white() -> None:
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = 4, 4, "rgba"
    context.time_base = 1
    clear = av.VideoFrame.from_ndarray(np.zeros((4, 4, 4), np.uint8), format="rgba")
    data = b"".join(bytes(packet) for packet in context.encode(clear) + context.encode(None))
    assert (decode_image(data) == 255).all()


def test_an_image_that_says_it_is_enormous_is_refused_before_decoding() -> None:
    data = bytearray(image_bytes("png"))
    data[16:24] = (50_000).to_bytes(4, "big") * 2
    with pytest.raises(MediaLimitExceeded) as refused:
        decode_image(bytes(data))
    assert refused.value.reason == "pixels"


def test_an_image_that_is_enormous_is_refused_and_a_large_one_is_not() -> None:
    with pytest.raises(MediaLimitExceeded, match="20000×20000") as refused:
        decode_image(enormous_png(20_000))
    assert refused.value.reason == "pixels"
    assert not decode_image(enormous_png(5_000)).any()


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff", b"GIF89a" + bytes(100)])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(MediaRefused):
        decode_image(data)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("a.mp3", "mp3"), ("a.ogg", "libopus"), ("a.flac", "flac")],
)
def test_sound_files_become_16_khz_mono(tmp_path: Path, name: str, codec: str) -> None:
    path = make_sound(tmp_path / name, duration_s=3, audio_codec=codec)
    samples = decode_sound(path.read_bytes())
    assert samples.size == pytest.approx(48_000, rel=0.05)
    assert loudest_hz(samples[:15_000]) == pytest.approx(330, abs=5)


def test_wav_is_decoded_and_long_or_silent_files_are_refused(tmp_path: Path) -> None:
    assert decode_sound(wav_bytes(duration_s=2)).size == 32_000
    assert decode_sound(wav_bytes(duration_s=30)).size == MAX_AUDIO_SAMPLES
    with pytest.raises(MediaRefused) as refused:
        decode_sound(wav_bytes(duration_s=31))
    assert refused.value.reason == "too_long"
    with pytest.raises(MediaRefused) as refused:
        decode_sound(make_silent_video(tmp_path / "a.mp4", duration_s=1).read_bytes())
    assert refused.value.reason == "no_sound"


def loudest_hz(samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.argmax(spectrum) * 16_000 / samples.size)


def exif(orientation: int) -> bytes:
    """Return a JPEG segment that says nothing but the orientation."""
    entry = b"\x12\x01\x03\0\x01\0\0\0" + orientation.to_bytes(4, "little")
    tiff = b"II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
    body = b"Exif\0\0" + tiff
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
