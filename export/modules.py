"""The torch modules that are exported: checkpoints with pre- and postprocessing inside the graph.

Pixels arrive as uint8 and are normalised here, sound is normalised here, and each output is a unit
vector, so nothing outside the graph has to know a model's constants.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel, PreTrainedModel

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's own, per channel of RGB in 0…1
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SILENCE = 1e-7  # variance added before the division, as in Wav2Vec2FeatureExtractor


class ClipText(nn.Module):
    """Token ids to a unit vector."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.tower = clip.text_model
        self.projection = clip.text_projection

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, tokens) int64 twice → (n, vision)."""
        pooled = self.tower(input_ids=ids, attention_mask=mask).pooler_output
        return functional.normalize(self.projection(pooled), dim=-1)


class ClipVision(nn.Module):
    """uint8 pixels to a unit vector."""

    mean: Tensor
    std: Tensor

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.tower = clip.vision_model
        self.projection = clip.visual_projection
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(1, 3, 1, 1) * 255)

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, size, size) uint8 → (n, vision)."""
        normalised = (pixels.to(self.mean.dtype) - self.mean) / self.std
        pooled = self.tower(pixel_values=normalised).pooler_output
        return functional.normalize(self.projection(pooled), dim=-1)


class Sentence(nn.Module):
    """Token ids to a unit vector: the mean of the token embeddings, or the first one.

    The mean is that of Sentence-BERT (Reimers and Gurevych 2019); BGE was trained on the first.
    """

    def __init__(self, encoder: PreTrainedModel, pooling: Literal["mean", "first"]) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, tokens) int64 twice → (n, sentence)."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "first":
            return functional.normalize(hidden[:, 0], dim=-1)
        present = mask.to(hidden.dtype)[:, :, None]
        mean = (hidden * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
        return functional.normalize(mean, dim=-1)


class Sound(nn.Module):
    """16 kHz mono sound to a unit vector."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, audio: Tensor) -> Tensor:
        """(n, samples) → (n, audio)."""
        mean = audio.mean(dim=1, keepdim=True)
        variance = ((audio - mean) ** 2).mean(dim=1, keepdim=True)
        normalised = (audio - mean) / torch.sqrt(variance + SILENCE)
        return functional.normalize(self.encoder(normalised), dim=-1)
