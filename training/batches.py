"""What one step of the towers sees and hears, with captions: all from a seed and a step."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ensembles.contracts import AUDIO_WINDOW_S, AUDIO_WINDOW_SAMPLES
from training.augment import augment
from training.corpus import training_batch
from training.patches import patch_labels
from training.tuning.tokens import mini_tokenizer
from training.world.captions import Caption, Kind, describe, describe_found, phrase
from training.world.drawing import draw_batch, geometry
from training.world.hearing import synthesise_batch
from training.world.scenes import (
    ACROSS,
    DOWN,
    SEGMENT_S,
    Attributes,
    Segment,
    attributes,
    encode,
    fit_matrix,
)

PICTURE_KINDS: tuple[Kind, ...] = ("object", "object", "colour")
EMPTY_NAMES = ("background", "background_colour", "weather", "light")
LATEST_WINDOW_S = SEGMENT_S - AUDIO_WINDOW_S
MIDDLE = 0.25  # how far from the middle of the picture is still the middle

Rows = TypeVar("Rows")


@dataclass(frozen=True)
class PictureBatch:
    """Pictures, what each patch shows, and captions; row i of one belongs to row i of the other."""

    pixels: Tensor  # (n, 3, size, size) uint8
    labels: Tensor  # (n, patches, 2), as in training/patches.py
    measures: Tensor  # (n, 3) the figure's middle and radius
    codes: Tensor  # (n, attributes) of the segments
    texts: Tensor  # (n, tokens) int64, zeros after the end token
    mentions: Tensor  # (n, attributes) of the captions


@dataclass(frozen=True)
class SoundBatch:
    """Sounds and captions."""

    sounds: Tensor  # (m, samples)
    codes: Tensor
    texts: Tensor
    mentions: Tensor


def picture_batch(seed: int, step: int, size: int, size_px: int, patch_px: int) -> PictureBatch:
    """Return the pictures of one step.

    Args:
        seed: of the training run.
        step: of the training run.
        size: how many pictures.
        size_px: their height and width.
        patch_px: height and width of a patch.
    """
    rng = Random(f"pictures {seed} {step}")  # noqa: S311 - reproducible on purpose
    segments = training_batch(seed, step, size)
    times = [rng.uniform(0, SEGMENT_S) for _ in segments]
    looks = [segment.look for segment in segments]
    found = [frame_attributes(s, t) for s, t in zip(segments, times, strict=True)]
    captions = [picture_caption(attributes, rng) for attributes in found]
    measured = [geometry(look, t) for look, t in zip(looks, times, strict=True)]
    return PictureBatch(
        pixels=augment(draw_batch(looks, times, (size_px, size_px)), seed, step),
        labels=torch.from_numpy(patch_labels(looks, times, size_px // patch_px)),
        measures=torch.tensor([[m.x, m.y, m.radius] for m in measured]),
        codes=encoded(found),
        texts=token_ids([caption.text for caption in captions]),
        mentions=mentions_of(captions),
    )


def sound_batch(seed: int, step: int, size: int) -> SoundBatch:
    """Return the sounds of one step; arguments as those of `picture_batch`."""
    rng = Random(f"sounds {seed} {step}")  # noqa: S311 - reproducible on purpose
    drawn = training_batch(seed, -1 - step, 2 * size + 16)
    segments = [segment for segment in drawn if segment.sound][:size]
    starts = [rng.uniform(0, LATEST_WINDOW_S) for _ in segments]
    played = [segment.sound for segment in segments if segment.sound]
    captions = [sound_caption(segment, rng) for segment in segments]
    return SoundBatch(
        sounds=synthesise_batch(played, starts, AUDIO_WINDOW_SAMPLES),
        codes=codes_of(segments),
        texts=token_ids([caption.text for caption in captions]),
        mentions=mentions_of(captions),
    )


def halves(batch: Rows) -> list[Rows]:
    """Split a dataclass of tensors in two, row by row; a tuple of tensors in each of its own."""
    found: list[dict[str, object]] = [{}, {}]
    for name, value in vars(batch).items():
        rows = value if isinstance(value, tuple) else (value,)
        chunks = [torch.chunk(row, 2) for row in rows]
        for half in (0, 1):
            part = tuple(chunk[half] for chunk in chunks)
            found[half][name] = part if isinstance(value, tuple) else part[0]
    return [type(batch)(**part) for part in found]


def frame_attributes(segment: Segment, time_s: float) -> dict[str, str]:
    """Return what a single frame shows: the place of what moves too, but no motion."""
    found = attributes(segment)
    if found["number"] == "one" and segment.look.companion is None:
        middle = geometry(segment.look, time_s)
        found["across"] = ACROSS[_third(middle.x)]
        found["down"] = DOWN[_third(middle.y)]
    return {name: value for name, value in found.items() if name not in ("motion", "camera")}


def _third(at: float) -> int:
    return 0 if at < -MIDDLE else 2 if at > MIDDLE else 1


def picture_caption(found: Attributes, rng: Random) -> Caption:
    """Describe what is seen, by some of its attributes."""
    caption = describe_found(found, rng.choice(PICTURE_KINDS), rng)
    if caption is not None:
        return caption
    names = ("number", *rng.sample(EMPTY_NAMES, rng.randint(1, len(EMPTY_NAMES))))
    return phrase("object", {name: found[name] for name in names}, rng)


def sound_caption(segment: Segment, rng: Random) -> Caption:
    """Describe what is heard in a segment that has a sound."""
    caption = describe(segment, "sound", rng)
    assert caption is not None
    return caption


def token_ids(texts: Sequence[str]) -> Tensor:
    """Return texts as the tokenizer model pads them: (texts, longest) int64, zeros at the end."""
    rows = [row.ids for row in mini_tokenizer().encode_batch(list(texts))]
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, found in zip(ids, rows, strict=True):
        row[: len(found)] = found
    return torch.from_numpy(ids)


def token_mask(ids: Tensor) -> Tensor:
    """Return where padded ids (n, tokens) hold a text; the start token, at 0, has the id 0."""
    return (ids != 0) | (torch.arange(ids.shape[1], device=ids.device) == 0)


def codes_of(segments: Sequence[Segment]) -> Tensor:
    """Return all attributes of segments: (segments, attributes) int64."""
    return encoded([attributes(segment) for segment in segments])


def mentions_of(captions: Sequence[Caption]) -> Tensor:
    """Return the attributes that captions name: (captions, attributes) int64."""
    return encoded([caption.attributes for caption in captions])


def encoded(described: Sequence[Attributes]) -> Tensor:
    """Return attributes as the indices of their values: (n, attributes) int64."""
    return torch.from_numpy(np.stack([encode(row) for row in described]).astype(np.int64))


def fitting(mentions: Tensor, codes: Tensor) -> Tensor:
    """Tell which captions fit which segments: (captions, segments) of 0 and 1."""
    return torch.from_numpy(fit_matrix(mentions.numpy(), codes.numpy())).float()
