"""What encoders are measured with: tokenized queries, pictures, noise. The same every time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from ensembles.contracts import AUDIO_WINDOW_SAMPLES
from loadtest.floor import open_tokenizer
from loadtest.queries import unique_queries

TEXTS, IMAGES, SOUNDS = 256, 64, 32  # rows of each workload
PICTURE_PX = (180, 320)
SEED = 7

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Workload:
    """The rows that every way runs: feeds of one row, each with what the ensemble takes."""

    rows: Sequence[Feed]
    raw: Sequence[Any]

    def batches(self, size: int) -> list[Feed]:
        """Put rows of one shape together, at most `size` a batch."""
        alike: dict[tuple[int, ...], list[Feed]] = {}
        for row in self.rows:
            alike.setdefault(next(iter(row.values())).shape, []).append(row)
        return [
            {name: np.concatenate([row[name] for row in part]) for name in part[0]}
            for rows in alike.values()
            for part in (rows[start : start + size] for start in range(0, len(rows), size))
        ]


def rows_of(feed: Feed) -> int:
    """Return how many rows a feed has."""
    return len(next(iter(feed.values())))


def make_workload(models_dir: Path, bundle: Bundle, model: str) -> Workload:
    """Return what one encoder is measured with."""
    if model == "clip_vision":
        return image_workload(bundle, [picture(seed) for seed in range(IMAGES)])
    if model == "wav2vec2":
        return audio_workload(SOUNDS)
    return text_workload(models_dir, bundle, model, unique_queries(TEXTS))


def text_workload(models_dir: Path, bundle: Bundle, model: str, texts: Sequence[str]) -> Workload:
    """Tokenize texts for `sentence` or `clip_text`, each padded to its bucket."""
    tokenizer = open_tokenizer(models_dir, bundle, "sentence" if model == "sentence" else "clip")
    return Workload([tokenizer.encode([text], ["query"]) for text in texts], texts)


def image_workload(bundle: Bundle, images: Sequence[bytes]) -> Workload:
    """Take encoded images for the ensemble, and as many random pictures for the encoder."""
    rng, size = np.random.default_rng(SEED), bundle.dims.image_size_px
    shape = (1, 3, size, size)
    rows = [{"PIXELS": rng.integers(0, 256, shape, dtype=np.uint8)} for _ in images]
    return Workload(rows, images)


def picture(seed: int) -> bytes:
    """Draw a smooth random JPEG."""
    height, width = PICTURE_PX
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    pixels = coarse.repeat(height // 9, axis=0).repeat(width // 16, axis=1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    context = av.CodecContext.create("mjpeg", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuvj420p"
    context.time_base = Fraction(1, 25)
    frame = frame.reformat(format="yuvj420p")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))


def audio_workload(count: int) -> Workload:
    """Make windows of noise."""
    rng = np.random.default_rng(SEED)
    sounds: list[FloatArray] = [
        rng.normal(0, 0.1, AUDIO_WINDOW_SAMPLES).astype(np.float32) for _ in range(count)
    ]
    return Workload([{"AUDIO": sound[None]} for sound in sounds], sounds)
