"""The tokens that fusion learns from: made once by the trained encoders, then kept in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn

from ensembles.contracts import AUDIO_WINDOW_SAMPLES
from training.augment import augment
from training.batches import LATEST_WINDOW_S, codes_of
from training.corpus import training_batch
from training.parts import Workers
from training.world.drawing import draw_batch
from training.world.hearing import synthesise_batch
from training.world.scenes import SEGMENT_S, Segment

CHUNK = 64  # segments that are drawn and embedded at a time
SentenceEncoder = Callable[[Sequence[str]], Tensor]  # texts → (texts, sentence) unit rows


@dataclass(frozen=True)
class Bank:
    """Segments and their tokens."""

    segments: list[Segment]
    codes: Tensor  # (n, attributes)
    frames: Tensor  # (n, frames, vision) in the order of time
    audio: Tensor  # (n, windows, audio), zeros where nothing is heard
    text: Tensor  # (n, 1, sentence), zeros where nothing is said
    heard: Tensor  # (n,) bool
    said: Tensor  # (n,) bool


def training_bank(
    encoders: tuple[nn.Module, nn.Module],
    sentences: SentenceEncoder,
    seed: int,
    count: int,
    frames: int,
    windows: int,
    size_px: int,
    workers: Workers,
) -> Bank:
    """Draw segments that training may see and embed them; arguments as those of `make_bank`."""
    segments = training_batch(seed, -1_000_000, count)
    return make_bank(encoders, sentences, segments, seed, frames, windows, size_px, workers)


def make_bank(
    encoders: tuple[nn.Module, nn.Module],
    sentences: SentenceEncoder,
    segments: list[Segment],
    seed: int,
    frames: int,
    windows: int,
    size_px: int,
    workers: Workers,
) -> Bank:
    """Draw, play and embed segments.

    Args:
        encoders: of pixels and of sound.
        sentences: encoder of transcripts.
        segments: what to embed.
        seed: of the moments that are looked at, and of the noise.
        frames: drawn of each, spread over it.
        windows: played of each.
        size_px: height and width of the pixels.
        workers: that embed, and their precision.
    """
    vision, sound = encoders
    rng = Random(f"bank {seed}")  # noqa: S311 - reproducible on purpose
    seen, heard = [], []
    for start in range(0, len(segments), CHUNK):
        chunk = segments[start : start + CHUNK]
        times = [SEGMENT_S * (k + rng.random()) / frames for _ in chunk for k in range(frames)]
        looks = [segment.look for segment in chunk for _ in range(frames)]
        pixels = augment(draw_batch(looks, times, (size_px, size_px)), seed, -1 - start)
        seen.append(_embed(vision, pixels, workers).view(len(chunk), frames, -1))
        heard.append(_listen(sound, chunk, windows, rng, workers))
    return Bank(
        segments=segments,
        codes=codes_of(segments),
        frames=torch.cat(seen),
        audio=torch.cat(heard),
        text=_read(sentences, segments)[:, None],
        heard=torch.tensor([segment.sound is not None for segment in segments]),
        said=torch.tensor([segment.speech is not None for segment in segments]),
    )


def _embed(encoder: nn.Module, rows: Tensor, workers: Workers) -> Tensor:
    """Embed rows on all threads, without gradients."""

    def embed(part: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (encoder(part.to(workers.device)).cpu(),)

    return torch.cat([found.float() for (found,) in workers.map(embed, rows.chunk(2))])


def _listen(
    encoder: nn.Module, segments: Sequence[Segment], windows: int, rng: Random, workers: Workers
) -> Tensor:
    """Return the embeddings of windows spread over each segment: (segments, windows, audio)."""
    sounds = [segment.sound for segment in segments if segment.sound for _ in range(windows)]
    spread = LATEST_WINDOW_S / windows
    starts = [(at % windows + rng.random()) * spread for at in range(len(sounds))]
    samples = synthesise_batch(sounds, starts, AUDIO_WINDOW_SAMPLES)
    found = _embed(encoder, samples, workers)
    rows = torch.zeros(len(segments), windows, found.shape[1])
    rows[[segment.sound is not None for segment in segments]] = found.view(-1, *rows.shape[1:])
    return rows


def _read(sentences: SentenceEncoder, segments: Sequence[Segment]) -> Tensor:
    """Return the embeddings of what is said: (segments, sentence), zeros where nothing is."""
    spoken = [segment.speech.transcript for segment in segments if segment.speech]
    found = sentences(spoken)
    rows = torch.zeros(len(segments), found.shape[1])
    rows[[segment.speech is not None for segment in segments]] = found
    return rows
