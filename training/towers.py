"""Stage one: pictures, sounds and words into one space, contrastively (Radford et al. 2021).

Beside the contrast, linear heads read each attribute off each embedding. They are shared by
pictures, sounds and words, so that a red picture and the word red must lie the same way. Others
read off each patch which shape and texture it shows, which the corpus knows exactly. All heads are
dropped after training; without them it would take many times as long.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ensembles.contracts import Dimensions
from export.modules import ClipText, ClipVision, Sound
from training.batches import PictureBatch, SoundBatch, fitting, halves, token_mask
from training.models import mini_clip, mini_sound_encoder
from training.parts import Workers, backward_in_parts
from training.patches import LABELS
from training.world.scenes import ABSENT, ATTRIBUTES

HEAD_SCALE = 12.0  # of a unit vector, before the heads
HEADS_SHARE = 1.0  # of the heads in the loss
MEASURES_SHARE = 2.0
PATCHES_SHARE = 2.0
LARGEST_SCALE = 100.0  # of the cosines, as in CLIP
FIRST_SCALE = 14.0


class Heads(nn.Module):
    """Linear readers of every attribute."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [len(values) for values in ATTRIBUTES.values()]
        self.attributes = nn.Linear(width, sum(self.sizes))
        self.measures = nn.Linear(width, 3)

    def forward(self, embeddings: Tensor, codes: Tensor) -> Tensor:
        """Return the mean cross-entropy over the attributes that are there.

        Args:
            embeddings: (n, width) unit vectors.
            codes: (n, attributes), ABSENT where an attribute is not there.
        """
        codes = codes.to(embeddings.device)
        logits = self.attributes(HEAD_SCALE * embeddings).split(self.sizes, dim=1)
        losses = [
            functional.cross_entropy(values, target, ignore_index=ABSENT, reduction="sum")
            for values, target in zip(logits, codes.T, strict=True)
        ]
        return torch.stack(losses).sum() / (codes != ABSENT).sum().clamp(min=1)

    def measure(self, embeddings: Tensor, measures: Tensor) -> Tensor:
        """Return the mean squared error of the figures' measures."""
        return functional.mse_loss(self.measures(HEAD_SCALE * embeddings), measures)


class Towers(nn.Module):
    """The encoders of the mini profile, and what trains them."""

    def __init__(self, dims: Dimensions, seed: int) -> None:
        super().__init__()
        self.clip = mini_clip(dims, seed)
        self.sound_encoder = mini_sound_encoder(dims, seed + 1)
        self.text, self.vision = ClipText(self.clip), ClipVision(self.clip)
        self.sound = Sound(self.sound_encoder)
        self.heads = Heads(dims.vision)
        self.patches = nn.ModuleList(
            nn.Linear(self.clip.config.vision_config.hidden_size, 1 + len(values))
            for values in LABELS
        )
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE).log())

    def embed_texts(self, ids: Tensor) -> Tensor:
        """(n, tokens) of ids → (n, vision) unit vectors."""
        ids = ids.to(self.scale.device)
        embedded: Tensor = self.text(ids, token_mask(ids))
        return embedded

    def embed(self, part: tuple[PictureBatch, SoundBatch]) -> tuple[Tensor, ...]:
        """Return the unit vectors of pictures, sounds and their captions, and every patch's."""
        pictures, sounds = part
        seen = self.vision.tower(
            pixel_values=self.vision.normalise(pictures.pixels.to(self.scale.device))
        )
        return (
            functional.normalize(self.vision.projection(seen.pooler_output), dim=-1),
            self.sound(sounds.sounds.to(self.scale.device)),
            self.embed_texts(pictures.texts),
            self.embed_texts(sounds.texts),
            seen.last_hidden_state[:, 1:],
        )

    def loss(
        self, embeddings: Sequence[Tensor], pictures: PictureBatch, sounds: SoundBatch
    ) -> Tensor:
        """Return the loss of one step, given what `embed` returned of it."""
        seen, heard, seen_texts, heard_texts, patches = embeddings
        heads, scale = self.heads, self.scale.exp().clamp(max=LARGEST_SCALE)
        total: Tensor = (
            contrast(seen_texts, seen, fitting(pictures.mentions, pictures.codes), scale)
            + contrast(heard_texts, heard, fitting(sounds.mentions, sounds.codes), scale)
            + HEADS_SHARE * (heads(seen, pictures.codes) + heads(seen_texts, pictures.mentions))
            + HEADS_SHARE * (heads(heard, only_sound(sounds.codes)))
            + HEADS_SHARE * heads(heard_texts, sounds.mentions)
            + MEASURES_SHARE * heads.measure(seen, pictures.measures.to(seen.device))
            + PATCHES_SHARE * self._patch_loss(patches, pictures.labels)
        )
        return total

    def backward(self, pictures: PictureBatch, sounds: SoundBatch, workers: Workers) -> Tensor:
        """Leave the gradients of one step, each worker's part summed; returns the loss."""
        return backward_in_parts(
            [*self.clip.parameters(), *self.sound_encoder.parameters()],
            self.embed,
            list(zip(halves(pictures), halves(sounds), strict=True)),
            lambda found: self.loss(found, pictures, sounds),
            workers,
        )

    def _patch_loss(self, patches: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of what each patch (n, patches, hidden) shows."""
        columns = labels.to(patches.device).flatten(0, 1).unbind(dim=1)
        losses = [
            functional.cross_entropy(head(patches.flatten(0, 1)), column)
            for head, column in zip(self.patches, columns, strict=True)
        ]
        return torch.stack(losses).sum()


def contrast(texts: Tensor, things: Tensor, fits: Tensor, scale: Tensor) -> Tensor:
    """Return the contrastive loss where a text may fit several things.

    Args:
        texts: (n, width) unit vectors.
        things: (m, width) unit vectors.
        fits: (n, m) of 0 and 1; each column has a 1. A row without is a text to be far from.
        scale: of the cosines.
    """
    fits = fits.to(texts.device)
    logits = scale * texts.float() @ things.float().T
    rows = fits / fits.sum(dim=1, keepdim=True).clamp(min=1)
    columns = (fits / fits.sum(dim=0, keepdim=True)).T
    return (
        functional.cross_entropy(logits, rows) + functional.cross_entropy(logits.T, columns)
    ) / 2


_NAMES = tuple(ATTRIBUTES)
_FIRST_HEARD, _FIRST_SAID = _NAMES.index("event"), _NAMES.index("topic")


def only_sound(codes: Tensor) -> Tensor:
    """Leave only what is heard of (n, attributes)."""
    kept = codes.clone()
    kept[:, :_FIRST_HEARD] = ABSENT
    kept[:, _FIRST_SAID:] = ABSENT
    return kept
