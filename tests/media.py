"""Small media files for tests: seeded, rendered in well under a second each, a few kB in size.

    video = make_video(tmp_path / "a.mp4")              # 6 s, 3 scenes of 2 s, H.264 and AAC
    video = make_video(tmp_path / "a.webm", video_codec="libvpx-vp9", audio_codec="libopus")
    video = make_video(tmp_path / "a.mkv", subtitles=(Cue(0, 2, "hello"),))
    make_silent_video, make_sound, make_truncated_video, make_text_file, make_empty_file, make_wav
    image_bytes("png" | "jpeg" | "webp"), wav_bytes()

The container follows the suffix: .mp4 .mov .mkv .webm .m4a .mp3 .wav .flac .ogg. Every file is the
same bytes for the same arguments.
"""

import io
import os
import struct
import wave
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Stream
from av.video.frame import PictureType
from av.video.stream import VideoStream

from deploy.demo.muxing import (
    TEXT_TIME_BASE,
    Encodable,
    sound_blocks,
    text_packet,
    write_interleaved,
)
from ingest.media import PacketIndex

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]
Pattern = Literal["flat", "bars", "checker", "gradient", "noise", "disc"]

SOUND_RATE_HZ = 48_000
SOUND_BLOCK = 960  # samples handed to the encoder at a time: 20 ms
# Fast settings on one thread, so that the bytes are the same every time; no keyframes at cuts but
# those that `make_video` asks for.
X265 = "pools=none:frame-threads=1:scenecut=0:log-level=none"
VIDEO_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "threads": "1", "forced-idr": "1"},
    "libx265": {"preset": "ultrafast", "x265-params": X265, "forced-idr": "1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


@dataclass(frozen=True)
class Scene:
    """One shot: a moving pattern in one colour over black, and a tone."""

    pattern: Pattern = "disc"
    colour: tuple[int, int, int] = (200, 60, 60)
    tone_hz: float = 440.0  # 0 is silence
    speed: float = 1.0  # how fast the pattern moves; 0 is a still


@dataclass(frozen=True)
class Cue:
    """One line of a transcript."""

    start_s: float
    end_s: float
    text: str


SCENES = (
    Scene("disc", (220, 60, 40), 330.0),
    Scene("bars", (40, 200, 80), 880.0),
    Scene("checker", (60, 90, 230), 0.0),
)


def make_video(
    path: Path,
    *,
    duration_s: float = 6.0,
    size: tuple[int, int] = (320, 180),
    fps: int = 25,
    video_codec: str | None = "libx264",
    audio_codec: str | None = "aac",
    scenes: Sequence[Scene] = SCENES,
    gop: int | None = None,
    keyframes_at_cuts: bool = True,
    subtitles: Sequence[Cue] = (),
    rotation: int = 0,
    start_s: float = 0.0,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write a video of `scenes` with hard cuts at equal distances, and return its path.

    Args:
        path: where to; its suffix picks the container, its folder must exist.
        duration_s: length of picture and sound, seconds.
        size: width and height in pixels, both even.
        fps: frames a second.
        video_codec: an encoder of FFmpeg; None writes no picture.
        audio_codec: an encoder of FFmpeg (aac, libopus, mp3, flac, pcm_s16le); None: no sound.
        scenes: the shots, each as long as the others; see `cut_times_s`.
        gop: frames between keyframes at most; None leaves it to the encoder.
        keyframes_at_cuts: every scene begins with a keyframe, as encoders mostly see to.
        subtitles: lines of an embedded text track (.mkv: SubRip, .mp4 and .mov: mov_text).
        rotation: 0, 90, 180 or 270: the clockwise turn a player makes (.mp4 and .mov).
        start_s: shifts every timestamp, so that the file does not begin at 0.
        options: more options for the video encoder, such as {"bf": "2"}.
    """
    with (
        _usual_scheduling(),
        av.open(str(path), "w", options={"fflags": "+bitexact"}) as container,
    ):
        video = _add_video(container, video_codec, size, fps, gop, options or {})
        audio = _add_audio(container, audio_codec)
        text = _add_text(container, path) if subtitles else None
        tracks: list[Iterator[Encodable]] = []
        if video:
            tracks.append(_frames(video, scenes, duration_s, start_s, keyframes_at_cuts))
        if audio:
            tracks.append(_blocks(audio, scenes, duration_s, start_s))
        if text:
            tracks.append(_lines(text, subtitles, start_s, prefixed=path.suffix != ".mkv"))
        write_interleaved(container, tracks)
    if rotation:
        _rotate(path, rotation)
    return path


@contextmanager
def _usual_scheduling() -> Iterator[None]:
    """Undo what SVT-AV1 does to a thread of root: real time, first in, first out.

    Two such threads that wait for a third one by spinning, as OpenMP's do, wait for ever on two
    cores, and whatever is started from one has its priority.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def cut_times_s(duration_s: float = 6.0, scenes: Sequence[Scene] = SCENES) -> tuple[float, ...]:
    """Return where the hard cuts of `make_video` are, in seconds; one fewer than the scenes."""
    return tuple(duration_s * i / len(scenes) for i in range(1, len(scenes)))


def make_silent_video(path: Path, *, duration_s: float = 6.0) -> Path:
    """Write a video that has no sound stream."""
    return make_video(path, duration_s=duration_s, audio_codec=None)


def make_sound(path: Path, *, duration_s: float = 6.0, audio_codec: str = "aac") -> Path:
    """Write a file that has sound alone, such as an .m4a, or an .mp4 without picture."""
    return make_video(path, duration_s=duration_s, video_codec=None, audio_codec=audio_codec)


def make_truncated_video(path: Path, *, keep: float = 0.6) -> Path:
    """Write an MP4 that stops after the share `keep` of its bytes, so its index is missing."""
    data = make_video(path).read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def make_text_file(path: Path) -> Path:
    """Write plain words, whatever the suffix says."""
    path.write_text("This is not a video, whatever its name says.\n" * 200, encoding="utf-8")
    return path


def make_empty_file(path: Path) -> Path:
    """Write a file of zero bytes."""
    path.write_bytes(b"")
    return path


def make_wav(path: Path, *, duration_s: float = 2.0, tone_hz: float = 440.0) -> Path:
    """Write a 16-bit mono WAV file of one tone."""
    path.write_bytes(wav_bytes(duration_s=duration_s, tone_hz=tone_hz))
    return path


def wav_bytes(*, duration_s: float = 2.0, tone_hz: float = 440.0, rate_hz: int = 16_000) -> bytes:
    """Return a 16-bit mono WAV file of one tone."""
    times = np.arange(int(duration_s * rate_hz)) / rate_hz
    samples = (0.5 * np.sin(2 * np.pi * tone_hz * times) * 32_767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def image_bytes(
    kind: Literal["png", "jpeg", "webp"] = "png",
    *,
    size: tuple[int, int] = (320, 180),
    scene: Scene = SCENES[0],
    time_s: float = 0.0,
) -> bytes:
    """Return an encoded image: the frame of `scene` at `time_s`."""
    codec, pixel_format = {
        "png": ("png", "rgb24"),
        "jpeg": ("mjpeg", "yuvj420p"),
        "webp": ("libwebp", "yuv420p"),
    }[kind]
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = size
    context.pix_fmt = pixel_format
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(draw(scene, size, time_s), format="rgb24")
    frame = frame.reformat(format=pixel_format)
    frame.pts = 0
    packets = [*context.encode(frame), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def enormous_png(side_px: int) -> bytes:
    """Return a black picture of one bit a pixel: few bytes, and `side_px`² pixels when decoded."""
    pack = zlib.compressobj(1)
    row = bytes(1 + (side_px + 7) // 8)  # the filter's number, then the pixels
    data = b"".join(pack.compress(row) for _ in range(side_px)) + pack.flush()
    head = struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def packet_index(
    sizes: Sequence[int], keyframes: Collection[int], fps: float = 25.0
) -> PacketIndex:
    """Make up a picture stream, shown in the order of the file.

    Args:
        sizes: of the packets, bytes.
        keyframes: the numbers of those that are keyframes.
        fps: how many are shown a second.
    """
    ticks = np.arange(len(sizes), dtype=np.int64)
    return PacketIndex(
        ticks=ticks,
        times_s=ticks / fps,
        keyframes=np.isin(ticks, list(keyframes)),
        sizes=np.array(sizes, np.int32),
        tick_s=1 / fps,
        end_s=len(sizes) / fps,
    )


def draw(scene: Scene, size: tuple[int, int], time_s: float) -> Pixels:
    """Return a frame of a scene, shape (height, width, 3), RGB."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    shift = np.float32(0.3 * scene.speed * time_s)
    lit = _lightness(scene.pattern, x, y, float(shift))
    return (lit[..., None] * np.array(scene.colour, np.float32)).clip(0, 255).astype(np.uint8)


def _lightness(pattern: Pattern, x: Samples, y: Samples, shift: float) -> Samples:
    """Return how lit each pixel is, 0…1; `x` and `y` in units of the height."""
    if pattern == "flat":
        return np.ones_like(x)
    if pattern == "gradient":
        return np.asarray((x + shift) % 1.0, np.float32)
    if pattern == "bars":
        return np.asarray(((x + shift) * 4 % 1.0 > 0.5), np.float32)
    if pattern == "checker":
        return np.asarray(((x + shift) * 5 // 1 + y * 5 // 1) % 2, np.float32)
    if pattern == "noise":
        generator = np.random.default_rng(round(shift * 1000))
        return generator.random(x.shape, np.float32)
    centre = 0.4 + 0.9 * (0.5 + 0.5 * np.sin(2 * shift))
    inside = (x - centre) ** 2 + (y - 0.5) ** 2 < 0.09
    return np.asarray(np.where(inside, 1.0, 0.15), np.float32)


def _add_video(
    container: OutputContainer,
    codec: str | None,
    size: tuple[int, int],
    fps: int,
    gop: int | None,
    options: Mapping[str, str],
) -> VideoStream | None:
    if codec is None:
        return None
    stream = container.add_stream(codec, rate=fps)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, fps)
    if gop is not None:
        stream.codec_context.gop_size = gop
    stream.options = {**VIDEO_OPTIONS.get(codec, {}), **options}
    return stream


def _add_audio(container: OutputContainer, codec: str | None) -> AudioStream | None:
    if codec is None:
        return None
    stream = container.add_stream(codec, rate=SOUND_RATE_HZ, layout="mono")
    assert isinstance(stream, AudioStream)
    if codec not in ("flac", "pcm_s16le"):
        stream.codec_context.bit_rate = 48_000
    return stream


def _add_text(container: OutputContainer, path: Path) -> Stream:
    codec = "subrip" if path.suffix == ".mkv" else "mov_text"
    return container.add_mux_stream(codec, time_base=TEXT_TIME_BASE)


def _frames(
    stream: VideoStream,
    scenes: Sequence[Scene],
    duration_s: float,
    start_s: float,
    keyframes_at_cuts: bool,
) -> Iterator[Encodable]:
    fps = round(float(stream.codec_context.framerate))
    count = round(duration_s * fps)
    shown = -1
    for i in range(count):
        which = i * len(scenes) // count
        pixels = draw(scenes[which], (stream.width, stream.height), i / fps)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = i + round(start_s * fps)
        frame.time_base = Fraction(1, fps)
        if keyframes_at_cuts and which != shown:
            frame.pict_type = PictureType.I
        shown = which
        yield i / fps, stream, frame


def _blocks(
    stream: AudioStream, scenes: Sequence[Scene], duration_s: float, start_s: float
) -> Iterator[Encodable]:
    samples = _sound(scenes, duration_s)
    yield from sound_blocks(stream, samples, SOUND_RATE_HZ, SOUND_BLOCK, start_s=start_s)


def _sound(scenes: Sequence[Scene], duration_s: float) -> Samples:
    """Return the tones of the scenes, shape (samples,), at `SOUND_RATE_HZ`."""
    times = np.arange(int(duration_s * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    which = np.minimum((times / duration_s * len(scenes)).astype(int), len(scenes) - 1)
    tones = np.array([scene.tone_hz for scene in scenes])[which]
    return np.asarray(0.4 * np.sin(2 * np.pi * tones * times), np.float32)


def _lines(
    stream: Stream, cues: Sequence[Cue], start_s: float, prefixed: bool
) -> Iterator[Encodable]:
    for cue in cues:
        text = cue.text.encode()
        data = len(text).to_bytes(2, "big") + text if prefixed else text
        packet = text_packet(stream, data, start_s + cue.start_s, start_s + cue.end_s)
        yield cue.start_s, stream, packet


def _rotate(path: Path, degrees: int) -> None:
    """Set the matrix in the first track header: what a phone held upright writes."""
    one = 0x1_0000
    cosine, sine = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    matrix = np.array([cosine, sine, 0, -sine, cosine, 0, 0, 0, 0x4000_0000], ">i4").tobytes()
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes of fields stand before the matrix
    data[at : at + len(matrix)] = matrix
    path.write_bytes(bytes(data))
