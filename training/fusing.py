"""Stage two: fusion, and the text tower with it, over the frozen encoders' tokens.

The text tower goes on seeing pictures and sounds by themselves, so that words keep finding them.
The numbers of frames, the modalities' weights and the shares of PIX vary from step to step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from ensembles.contracts import Dimensions
from export.samples import plain_sentences
from training.bank import Bank
from training.batches import fitting, halves, mentions_of, picture_caption, sound_caption, token_ids
from training.models import fusion
from training.parts import Workers, backward_in_parts
from training.towers import HEADS_SHARE, LARGEST_SCALE, Towers, contrast
from training.world.captions import Caption, Kind, describe
from training.world.scenes import Segment, attributes
from training.world.spoken import strange_words
from training.world.topics import TOPICS

KINDS: tuple[tuple[Kind, int], ...] = (
    ("mixed", 8),
    ("motion", 6),
    ("sound", 3),
    ("speech", 3),
    ("object", 2),
    ("colour", 2),
)
FUSED_SHARE = 2.0  # of the fused vectors' contrast in the loss
STRANGERS = 64  # texts of a step that fit nothing: half of them sentences, half odd words
AVERSION = 100.0  # of strangers from all things, in the loss
FAR = 0.05  # a cosine up to which a stranger is far enough
WEIGHT_SPREAD = 0.5  # of the logarithms of modalities' and tokens' weights


@dataclass(frozen=True)
class FusionBatch:
    """Tokens with a caption of all of it, of what is seen, and of what is heard."""

    tokens: tuple[Tensor, ...]  # the arguments of Fusion.forward
    texts: Tensor
    mentions: Tensor
    codes: Tensor
    seen_texts: Tensor
    seen_mentions: Tensor
    sounds: Tensor  # (m, audio) unit rows
    sound_texts: Tensor
    sound_mentions: Tensor
    sound_codes: Tensor
    stranger_texts: Tensor  # of which none is about any picture or sound


class Fusing(nn.Module):
    """Fusion and the text tower, and what trains them."""

    def __init__(self, towers: Towers, dims: Dimensions, seed: int) -> None:
        super().__init__()
        self.towers = towers
        self.fusion = fusion(dims, seed + 2)
        for frozen in (*towers.clip.vision_model.parameters(), *_projection(towers)):
            frozen.requires_grad_(False)
        for frozen in towers.sound_encoder.parameters():
            frozen.requires_grad_(False)

    def embed(self, part: FusionBatch) -> tuple[Tensor, ...]:
        """Return the unit vectors of the segments and of the captions."""
        tokens = [rows.to(self.towers.scale.device) for rows in part.tokens]
        return (
            self.fusion(*tokens),
            mean_frames(tokens[0], tokens[1]),
            self.towers.embed_texts(part.texts),
            self.towers.embed_texts(part.seen_texts),
            self.towers.embed_texts(part.sound_texts),
            self.towers.embed_texts(part.stranger_texts),
        )

    def loss(self, embeddings: Sequence[Tensor], batch: FusionBatch) -> Tensor:
        """Return the loss of one batch, given what `embed` returned of it."""
        fused, seen, texts, seen_texts, sound_texts, strangers = embeddings
        heads = self.towers.heads
        scale = self.towers.scale.exp().clamp(max=LARGEST_SCALE)
        everything = fitting(batch.mentions, batch.codes)
        visible = fitting(batch.seen_mentions, batch.codes)
        audible = fitting(batch.sound_mentions, batch.sound_codes)
        nothing_seen = torch.zeros(len(strangers), len(seen))
        nothing_heard = torch.zeros(len(strangers), len(batch.sounds))
        total: Tensor = (
            FUSED_SHARE * contrast(texts, fused, everything, scale)
            + contrast(
                torch.cat([seen_texts, strangers]), seen, torch.cat([visible, nothing_seen]), scale
            )
            + contrast(
                torch.cat([sound_texts, strangers]),
                batch.sounds.to(scale.device),
                torch.cat([audible, nothing_heard]),
                scale,
            )
            + HEADS_SHARE * (heads(fused, batch.codes) + heads(texts, batch.mentions))
            + AVERSION * nearness(strangers, (fused, seen, batch.sounds.to(scale.device)))
        )
        return total

    def backward(self, batch: FusionBatch, workers: Workers) -> Tensor:
        """Leave the gradients of a batch; returns the loss."""
        clip = self.towers.clip
        trained = [
            *self.fusion.parameters(),
            *clip.text_model.parameters(),
            *clip.text_projection.parameters(),
        ]
        return backward_in_parts(
            trained, self.embed, halves(batch), lambda found: self.loss(found, batch), workers
        )


def fusion_batch(bank: Bank, seed: int, step: int, size: int) -> FusionBatch:
    """Return the batch of one step.

    Args:
        bank: of tokens.
        seed: of the training run.
        step: of the training run.
        size: how many segments; half as many more captions are of what is heard.
    """
    rng = Random(f"fusing {seed} {step}")  # noqa: S311 - reproducible on purpose
    rows = rng.sample(range(len(bank.segments)), size)
    captions = [_caption(bank.segments[row], rng) for row in rows]
    seen = [picture_caption(attributes(bank.segments[row]), rng) for row in rows]
    sounding = [row for row in range(len(bank.segments)) if bank.heard[row]]
    heard = rng.sample(sounding, min(size // 2, len(sounding)))
    sound_captions = [sound_caption(bank.segments[row], rng) for row in heard]
    return FusionBatch(
        tokens=_tokens(bank, rows, captions, rng),
        texts=token_ids([caption.text for caption in captions]),
        mentions=mentions_of(captions),
        codes=bank.codes[rows],
        seen_texts=token_ids([caption.text for caption in seen]),
        seen_mentions=mentions_of(seen),
        sounds=functional.normalize(bank.audio[heard].sum(dim=1), dim=-1),
        sound_texts=token_ids([caption.text for caption in sound_captions]),
        sound_mentions=mentions_of(sound_captions),
        sound_codes=bank.codes[heard],
        stranger_texts=token_ids(_strangers(rng)),
    )


def nearness(strangers: Tensor, things: Sequence[Tensor]) -> Tensor:
    """Return how much strangers are nearer to things than FAR: the mean square of the cosines over.

    A contrast only ranks texts against each other. Without this, words that the tower has never
    read land anywhere, often as near to a picture as its own caption.
    """
    over = [functional.relu(strangers.float() @ rows.float().T - FAR) for rows in things]
    return torch.stack([cosines.square().mean() for cosines in over]).sum()


def _strangers(rng: Random) -> list[str]:
    """Return texts that are about nothing in the corpus."""
    odd = [" ".join(rng.sample(strange_words(), rng.randint(1, 6))) for _ in range(STRANGERS // 2)]
    return [*rng.sample(stranger_sentences(), STRANGERS - len(odd)), *odd]


@cache
def stranger_sentences() -> list[str]:
    """Return texts about nothing that is ever seen or heard in the corpus."""
    said = [
        line for aspects in TOPICS.values() for aspect in aspects.values() for line in aspect.said
    ]
    return [*plain_sentences(), *said]


def mean_frames(frames: Tensor, weights: Tensor) -> Tensor:
    """Return the unit mean of the frames that are there: (n, vision)."""
    return functional.normalize((frames * (weights > 0)[:, :, None]).sum(dim=1), dim=-1)


def _projection(towers: Towers) -> tuple[nn.Parameter, ...]:
    return tuple(towers.clip.visual_projection.parameters())


def _caption(segment: Segment, rng: Random) -> Caption:
    """Describe a segment by one of the kinds that apply to it."""
    kinds, shares = zip(*KINDS, strict=True)
    for _ in range(8):
        caption = describe(segment, rng.choices(kinds, shares)[0], rng)
        if caption is not None:
            return caption
    return picture_caption(attributes(segment), rng)


def _tokens(
    bank: Bank, rows: Sequence[int], captions: Sequence[Caption], rng: Random
) -> tuple[Tensor, ...]:
    """Return the tokens of segments as Fusion takes them, some frames left out, and weights."""
    most = bank.frames.shape[1]
    frames = torch.zeros(len(rows), most, bank.frames.shape[2])
    frame_weights = torch.zeros(len(rows), most)
    for at, (row, caption) in enumerate(zip(rows, captions, strict=True)):
        moves = "motion" in caption.attributes or "camera" in caption.attributes
        count = rng.randint(min(2, most) if moves else 1, most)
        kept = sorted(rng.sample(range(most), count))
        frames[at, :count] = bank.frames[row, kept]
        frame_weights[at, :count] = torch.tensor([_weight(rng) for _ in kept])
    windows = torch.tensor([[_weight(rng)] for _ in rows]).expand(-1, bank.audio.shape[1])
    audio_weights = windows * bank.heard[rows][:, None]
    text_weights = torch.tensor([[_weight(rng)] for _ in rows]) * bank.said[rows][:, None]
    return frames, frame_weights, bank.audio[rows], audio_weights, bank.text[rows], text_weights


def _weight(rng: Random) -> float:
    return rng.lognormvariate(0.0, WEIGHT_SPREAD)
