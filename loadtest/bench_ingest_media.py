"""Long videos to measure ingest with: seeded, a real encoder, moving content, sound, not looped.

Each shot pans over a texture of its own, with film grain and something that crosses the picture;
it lasts 2 to 12 s and ends in a hard cut. In the set `cuts` x264 puts keyframes where it wants to,
mostly at cuts; in the set `fixed` every two seconds and nowhere else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal, cast

import av
import msgspec
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from deploy.demo.muxing import Encodable, sound_blocks, write_interleaved
from ensembles.arrays import FloatArray, UInt8Array
from ingest.files import replacing

FPS = 25
SHOT_S = (2.0, 12.0)  # shortest, longest
MARGIN = 0.25  # of the picture's size: how far a shot pans
GRAIN = 6  # steps of brightness
RATE_HZ = 48_000
SOUND_BLOCK = 1_024  # samples handed to the encoder at a time
X264 = {
    "cuts": "keyint=250",
    "fixed": "keyint=50:min-keyint=50:scenecut=0",
}

Keyframes = Literal["cuts", "fixed"]
Progress = Callable[[float], None]  # share of the file that is written


class Recipe(msgspec.Struct, frozen=True):
    """What a file is made of; the same recipe gives the same pictures."""

    duration_s: float
    height_px: int = 720
    keyframes: Keyframes = "cuts"
    seed: int = 1

    @property
    def width_px(self) -> int:
        """Sixteen to nine, even."""
        return self.height_px * 16 // 9 // 2 * 2

    @property
    def name(self) -> str:
        """Of the file."""
        return f"{self.height_px}p-{self.duration_s:g}s-{self.keyframes}-{self.seed}.mp4"


def made(recipe: Recipe, folder: Path, progress: Progress) -> Path:
    """Return the file of a recipe, made where it is not there yet."""
    path = folder / recipe.name
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            _write(recipe, Path(file.name), progress)
    progress(1.0)
    return path


def edges_s(recipe: Recipe) -> tuple[float, ...]:
    """Return where shots begin and the last one ends, in whole frames; the inner ones are cuts."""
    generator = np.random.default_rng(recipe.seed)
    frames, last = [0], round(recipe.duration_s * FPS)
    while frames[-1] < last:
        frames.append(min(last, frames[-1] + round(generator.uniform(*SHOT_S) * FPS)))
    if len(frames) > 2 and frames[-1] - frames[-2] < SHOT_S[0] * FPS:
        del frames[-2]
    return tuple(frame / FPS for frame in frames)


def _write(recipe: Recipe, path: Path, progress: Progress) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = recipe.width_px, recipe.height_px, "yuv420p"
        video.codec_context.time_base = Fraction(1, FPS)
        parameters = X264[recipe.keyframes]
        video.options = {
            "preset": "superfast",
            "crf": "23",
            "threads": "1",  # so that the bytes are the same every time
            "x264-params": parameters,
        }
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        assert isinstance(audio, AudioStream)
        tracks = (_pictures(recipe, video, progress), _sounds(recipe, audio))
        write_interleaved(container, tracks)


# ---- pictures -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shot:
    """A shot's planes, larger than the picture by MARGIN, and how it moves over them."""

    planes: tuple[UInt8Array, UInt8Array, UInt8Array]  # brightness, and two of colour, half as wide
    visitor: UInt8Array  # what crosses the picture, of its brightness
    turns_per_s: FloatArray  # (2,) of the pan, down and across
    phases: FloatArray  # (2,)


def _pictures(recipe: Recipe, stream: VideoStream, progress: Progress) -> Iterator[Encodable]:
    grain = _grain(recipe)
    picture = np.empty((recipe.height_px * 3 // 2, recipe.width_px), np.uint8)
    for number, (start_s, end_s) in enumerate(pairwise(edges_s(recipe))):
        generator = np.random.default_rng((recipe.seed, number))
        shot = _shot(recipe, generator)
        for frame_number in range(round(start_s * FPS), round(end_s * FPS)):
            at_s = frame_number / FPS
            _draw(picture, shot, at_s - start_s, grain, generator)
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = frame_number, Fraction(1, FPS)
            yield at_s, stream, frame
        progress(end_s / recipe.duration_s)


def _shot(recipe: Recipe, generator: np.random.Generator) -> _Shot:
    height, width = recipe.height_px, recipe.width_px
    larger = (_even(height * (1 + MARGIN)), _even(width * (1 + MARGIN)))
    coarse = _planes(generator.integers(40, 216, (6, 10, 3), np.uint8), larger)
    fine = _planes(generator.integers(0, 256, (90, 160, 3), np.uint8), larger)
    mixed = np.uint8(0.5 * coarse[0].astype(np.float32) + 0.5 * fine[0]).clip(24, 231)
    visitor = generator.integers(24, 232, (8, 8), np.uint8).repeat(height // 24, 0)
    return _Shot(
        planes=(mixed, coarse[1], coarse[2]),
        visitor=visitor.repeat(height // 24, 1),
        turns_per_s=generator.uniform(0.02, 0.2, 2).astype(np.float32),
        phases=generator.uniform(0, 1, 2).astype(np.float32),
    )


def _planes(cells: UInt8Array, size: tuple[int, int]) -> tuple[UInt8Array, UInt8Array, UInt8Array]:
    """Return coloured cells blown up smoothly, as the planes of a picture."""
    height, width = size
    small = av.VideoFrame.from_ndarray(np.ascontiguousarray(cells), format="rgb24")
    frame = small.reformat(width=width, height=height, format="yuv444p")
    large = cast(UInt8Array, frame.to_ndarray())  # (3, height, width)
    return large[0], large[1, ::2, ::2], large[2, ::2, ::2]


def _draw(
    picture: UInt8Array,
    shot: _Shot,
    at_s: float,
    grain: UInt8Array,
    generator: np.random.Generator,
) -> None:
    """Draw a frame into the planes of `picture`, (height × 3 / 2, width)."""
    height, width = picture.shape[0] * 2 // 3, picture.shape[1]
    swing = 0.5 + 0.5 * np.sin(2 * np.pi * (shot.turns_per_s * at_s + shot.phases))
    y, x = (_even(swing[0] * height * MARGIN), _even(swing[1] * width * MARGIN))
    bright = picture[:height]
    bright[:] = shot.planes[0][y : y + height, x : x + width]
    side = len(shot.visitor)
    left = int((width - side) * (at_s / SHOT_S[1] % 1.0))
    top = (height - side) // 2
    bright[top : top + side, left : left + side] = shot.visitor
    down, right = generator.integers(0, 64, 2)
    bright += grain[down : down + height, right : right + width]  # wraps round: no step is left
    colours = picture[height:].reshape(2, height // 2, width // 2)
    for plane, colour in zip(shot.planes[1:], colours, strict=True):
        colour[:] = plane[y // 2 : y // 2 + height // 2, x // 2 : x // 2 + width // 2]


def _grain(recipe: Recipe) -> UInt8Array:
    """Return grain a little larger than the picture; negative steps as their wrapped value."""
    generator = np.random.default_rng((recipe.seed, recipe.height_px))
    size = (recipe.height_px + 64, recipe.width_px + 64)
    return generator.integers(-GRAIN, GRAIN + 1, size, np.int8).view(np.uint8)


def _even(value: float) -> int:
    return int(value) // 2 * 2


# ---- sound --------------------------------------------------------------------------------------


def _sounds(recipe: Recipe, stream: AudioStream) -> Iterator[Encodable]:
    """Yield the sound shot by shot: two tones that swell, over noise."""
    begun = 0  # samples
    for number, end_s in enumerate(edges_s(recipe)[1:]):
        generator = np.random.default_rng((recipe.seed, number, 1))
        count = (round(end_s * RATE_HZ) - begun) // SOUND_BLOCK * SOUND_BLOCK
        times_s = np.arange(count, dtype=np.float32) / RATE_HZ
        tones = sum(np.sin(2 * np.pi * hz * times_s) for hz in generator.uniform(100, 2_000, 2))
        swell = 0.5 + 0.5 * np.sin(2 * np.pi * generator.uniform(0.2, 2) * times_s)
        noise = generator.standard_normal(count, np.float32)
        samples = np.float32(0.2) * tones * swell + np.float32(0.02) * noise
        start_s = begun / RATE_HZ
        blocks = sound_blocks(
            stream, samples.astype(np.float32), RATE_HZ, SOUND_BLOCK, start_s=start_s
        )
        for at_s, of, block in blocks:
            yield start_s + at_s, of, block
        begun += count
