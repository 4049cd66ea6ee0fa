"""The torch modules that are exported: checkpoints with pre- and postprocessing inside the graph.

Pixels arrive as uint8 and are normalised here, sound is normalised here, and each output is a unit
vector, so nothing outside the graph has to know a model's constants.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ClapModel, CLIPModel, PreTrainedModel, SiglipModel

from export.log_mel import LogMel

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's own, per channel of RGB in 0…1
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SIGLIP_MEAN = SIGLIP_STD = (0.5, 0.5, 0.5)
SIGLIP_PADDING = 0  # the token of Gemma's tokenizer
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


class Normalise(nn.Module):
    """uint8 pixels to a checkpoint's own range."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Take the mean and the deviation of each channel of RGB, in 0…1."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255)

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, size, size) uint8 → the same in floating point."""
        return (pixels.to(self.mean.dtype) - self.mean) / self.std


class ClipVision(nn.Module):
    """uint8 pixels to a unit vector."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.normalise = Normalise(CLIP_MEAN, CLIP_STD)
        self.tower = clip.vision_model
        self.projection = clip.visual_projection

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, size, size) uint8 → (n, vision)."""
        pooled = self.tower(pixel_values=self.normalise(pixels)).pooler_output
        return functional.normalize(self.projection(pooled), dim=-1)


class SiglipText(nn.Module):
    """Token ids to a unit vector.

    SigLIP (Zhai et al. 2023, Tschannen et al. 2025) was trained without a mask: each token also
    reads the padding, and a text's vector is that of the last place, which mostly is padding. So
    the mask only says where the padding's own token has to stand.
    """

    def __init__(self, siglip: SiglipModel) -> None:
        super().__init__()
        self.tower = siglip.text_model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, 64) int64 twice → (n, vision)."""
        padded = ids * mask + SIGLIP_PADDING * (1 - mask)
        return functional.normalize(self.tower(input_ids=padded).pooler_output, dim=-1)


class SiglipVision(nn.Module):
    """uint8 pixels to a unit vector."""

    def __init__(self, siglip: SiglipModel) -> None:
        super().__init__()
        self.normalise = Normalise(SIGLIP_MEAN, SIGLIP_STD)
        self.tower = siglip.vision_model

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, size, size) uint8 → (n, vision)."""
        pooled = self.tower(pixel_values=self.normalise(pixels)).pooler_output
        return functional.normalize(pooled, dim=-1)


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


class ClapText(nn.Module):
    """Token ids to a unit vector in the space of CLAP's sounds (Wu et al. 2023)."""

    def __init__(self, clap: ClapModel) -> None:
        super().__init__()
        self.tower = clap.text_model
        self.projection = clap.text_projection

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, tokens) int64 twice → (n, audio)."""
        pooled = self.tower(input_ids=ids, attention_mask=mask).pooler_output
        return functional.normalize(self.projection(pooled), dim=-1)


class ClapSound(nn.Module):
    """16 kHz mono sound to a unit vector, by way of its spectrogram."""

    def __init__(self, clap: ClapModel) -> None:
        super().__init__()
        self.log_mel = LogMel()
        self.tower = clap.audio_model
        self.projection = clap.audio_projection

    def forward(self, audio: Tensor) -> Tensor:
        """(n, samples) → (n, audio)."""
        pooled = self.tower(input_features=self.log_mel(audio)).pooler_output
        return functional.normalize(self.projection(pooled), dim=-1)
