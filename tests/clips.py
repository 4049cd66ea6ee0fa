"""A stretch of a video, encoded anew as someone would who sends it on."""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from deploy.demo.muxing import Encodable, sound_blocks, write_interleaved

FPS = 15
RATE_HZ = 44_100
BLOCK = 1_024  # samples handed to the encoder at a time


def recut(
    path: Path,
    start_s: float,
    length_s: float,
    *,
    size: tuple[int, int] = (256, 144),
    bits_per_s: int = 120_000,
) -> bytes:
    """Return a stretch of a video as MP4 (H.264, AAC) of another size, rate and quality.

    Args:
        path: of a video with picture and sound.
        start_s: where the stretch begins.
        length_s: of it.
        size: width and height of the new picture, pixels.
        bits_per_s: of the new picture.
    """
    encoded = io.BytesIO()
    with av.open(encoded, "w", format="mp4") as target:
        video, audio = target.add_stream("libx264", rate=FPS), target.add_stream("aac", RATE_HZ)
        assert isinstance(video, VideoStream)
        assert isinstance(audio, AudioStream)
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.bit_rate = bits_per_s
        samples = _samples(path)[round(start_s * RATE_HZ) :][: round(length_s * RATE_HZ)]
        tracks = (
            _frames(video, path, start_s, length_s),
            sound_blocks(audio, samples, RATE_HZ, BLOCK),
        )
        write_interleaved(target, tracks)
    return encoded.getvalue()


def _frames(
    stream: VideoStream, path: Path, start_s: float, length_s: float
) -> Iterator[Encodable]:
    shown = 0
    with av.open(str(path)) as source:
        for frame in source.decode(video=0):
            at_s = (frame.time or 0.0) - start_s
            while shown < length_s * FPS and at_s >= shown / FPS:
                small = frame.reformat(stream.width, stream.height, "yuv420p")
                small.pts, small.time_base = shown, Fraction(1, FPS)
                yield shown / FPS, stream, small
                shown += 1


def _samples(path: Path) -> npt.NDArray[np.float32]:
    """Return all of a video's sound, mono, (samples,)."""
    resampler = AudioResampler(format="fltp", layout="mono", rate=RATE_HZ)
    with av.open(str(path)) as source:
        frames = [*source.decode(audio=0), None]
        parts = [piece.to_ndarray() for frame in frames for piece in resampler.resample(frame)]
    return np.asarray(np.concatenate(parts, axis=1)[0], np.float32)
