"""Other ways than cross-attention to make one of a segment's tokens: to compare it with.

All but late fusion take what `Fusion` takes and return what it returns: unit rows in the space of
the frames. Weights mean the same everywhere: 0 is padding, else a share that counts relative to
the other tokens' shares. Late fusion makes no vector; it weighs the modalities' scores.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ensembles.contracts import Dimensions
from training.models import FUSION_LAYERS, MASKED, frame_changes, fusion, sliding_means

HEAD_WIDTH = 64  # of one attention head
FEED_FORWARD = 4  # times the width
FRAMES, AUDIO, TEXT = range(3)
OTHERS_START = -2.0  # the logits with which sound and text begin beside the frames' 0


class VisualOnly(nn.Module):
    """The mean frame embedding: what there is without fusion. Nothing in it is trained."""

    def forward(
        self,
        frame_tokens: Tensor,
        frame_weights: Tensor,
        audio_tokens: Tensor,  # noqa: ARG002 (one signature for all)
        audio_weights: Tensor,  # noqa: ARG002
        text_tokens: Tensor,  # noqa: ARG002
        text_weights: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """Return the (segments, vision) unit means of the frames that are there."""
        return functional.normalize(mean_frame(frame_tokens, frame_weights), dim=-1)


class WeightedSum(nn.Module):
    """The modalities' means, brought into one space, in a mixture that is the same everywhere."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.audio = nn.Linear(dims.audio, dims.fused)
        self.text = nn.Linear(dims.sentence, dims.fused)
        self.logits = nn.Parameter(torch.tensor([0.0, OTHERS_START, OTHERS_START]))

    def forward(
        self,
        frame_tokens: Tensor,
        frame_weights: Tensor,
        audio_tokens: Tensor,
        audio_weights: Tensor,
        text_tokens: Tensor,
        text_weights: Tensor,
    ) -> Tensor:
        """Fuse as `Fusion.forward` does."""
        means = torch.stack(
            [
                mean_frame(frame_tokens, frame_weights),
                self.audio(weighted_mean(audio_tokens, audio_weights)),
                self.text(weighted_mean(text_tokens, text_weights)),
            ],
            dim=1,
        )  # (segments, 3, fused)
        strength = modality_strength(frame_weights, audio_weights, text_weights)
        shares = torch.softmax(self.logits + log_weights(strength), dim=-1)
        mixed = (functional.normalize(means, dim=-1) * shares[:, :, None]).sum(dim=1)
        return functional.normalize(mixed, dim=-1)


class ConcatMlp(nn.Module):
    """The modalities' means and the frames' mean change side by side through a perceptron, added
    to the mean frame.
    """

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        inner = 2 * dims.fused
        self.layers = nn.Sequential(
            nn.Linear(2 * dims.vision + dims.audio + dims.sentence + 3, inner),
            nn.GELU(),
            nn.Linear(inner, dims.fused),
        )
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        frame_tokens: Tensor,
        frame_weights: Tensor,
        audio_tokens: Tensor,
        audio_weights: Tensor,
        text_tokens: Tensor,
        text_weights: Tensor,
    ) -> Tensor:
        """Fuse as `Fusion.forward` does."""
        mean = mean_frame(frame_tokens, frame_weights)
        strength = modality_strength(frame_weights, audio_weights, text_weights)
        side_by_side = torch.cat(
            [
                mean,
                weighted_mean(*frame_changes(frame_tokens, frame_weights)),
                weighted_mean(audio_tokens, audio_weights),
                weighted_mean(text_tokens, text_weights),
                strength / strength.sum(dim=-1, keepdim=True).clamp(min=1e-6),
            ],
            dim=-1,
        )
        return functional.normalize(mean + self.gate * self.layers(side_by_side), dim=-1)


class SelfAttention(nn.Module):
    """Every token attends to every other one (Vaswani et al. 2017), and their mean is added.

    A frame's token holds its change and its window's mean too, as cross-attention sees them.
    """

    def __init__(self, dims: Dimensions, depth: int = FUSION_LAYERS) -> None:
        super().__init__()
        width = dims.fused
        self.inputs = nn.ModuleList(
            nn.Linear(size, width) for size in (dims.vision, dims.audio, dims.sentence)
        )
        self.changes = nn.Linear(dims.vision, width)
        self.windows = nn.Linear(dims.vision, width)
        self.kinds = nn.Parameter(torch.randn(3, width) / width**0.5)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                max(1, width // HEAD_WIDTH),
                dim_feedforward=FEED_FORWARD * width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )
        self.output = nn.Linear(width, width)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        frame_tokens: Tensor,
        frame_weights: Tensor,
        audio_tokens: Tensor,
        audio_weights: Tensor,
        text_tokens: Tensor,
        text_weights: Tensor,
    ) -> Tensor:
        """Fuse as `Fusion.forward` does."""
        present = (frame_weights > 0).to(frame_tokens.dtype)[:, :, None]
        frames = frame_tokens * present
        changes, change_weights = frame_changes(frames, frame_weights)
        changed = self.changes(changes) * (change_weights > 0)[:, :, None]
        states = [
            layer(rows) + kind
            for layer, rows, kind in zip(
                self.inputs, (frames, audio_tokens, text_tokens), self.kinds, strict=True
            )
        ]
        states[0] = states[0] + changed + self.windows(sliding_means(frames, present))
        joined = torch.cat(states, dim=1)  # (segments, tokens, fused)
        weights = torch.cat([frame_weights, audio_weights, text_weights], dim=1)
        added = log_weights(weights)  # to the logits of each token as a key
        for layer in self.layers:
            joined = layer(joined, src_key_padding_mask=added)
        attended = self.output(weighted_mean(joined, weights))
        mean = mean_frame(frame_tokens, frame_weights)
        return functional.normalize(mean + self.gate * attended, dim=-1)


class LateFusion(nn.Module):
    """A weighted mean of the modalities' own scores, over those that a segment has."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, OTHERS_START, OTHERS_START]))
        self.log_scales = nn.Parameter(torch.zeros(3))  # cosines of modalities spread differently

    def forward(self, scores: Tensor, strength: Tensor) -> Tensor:
        """Fuse the scores of queries with segments.

        Args:
            scores: (queries, segments, 3) cosines with frames, sound and text.
            strength: (segments, 3) weight of each modality, 0 where a segment has none.

        Returns:
            (queries, segments); 0 where a segment has nothing.
        """
        shares = torch.softmax(self.logits + log_weights(strength), dim=-1)
        shares = shares * (strength > 0)
        fused: Tensor = (scores * self.log_scales.exp() * shares).sum(dim=-1)
        return fused


class Strategy(Protocol):
    """Builds a strategy for a profile's sizes from a seed."""

    def __call__(self, dims: Dimensions, seed: int) -> nn.Module:
        """Return it untrained, in evaluation mode."""
        ...


def _seeded(build: Callable[[Dimensions], nn.Module]) -> Strategy:
    def make(dims: Dimensions, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return build(dims).eval()

    return make


STRATEGIES: Mapping[str, Strategy] = {
    "visual-only": _seeded(lambda _: VisualOnly()),
    "weighted-sum": _seeded(WeightedSum),
    "concat-mlp": _seeded(ConcatMlp),
    "self-attention": _seeded(SelfAttention),
    "late-fusion": _seeded(lambda _: LateFusion()),
    "cross-attention": fusion,
}


# ---- what they share ----------------------------------------------------------------------------


def log_weights(weights: Tensor) -> Tensor:
    """Return the logarithms of weights, `MASKED` where one is 0."""
    return torch.where(weights > 0, torch.log(weights.clamp(min=1e-6)), MASKED)


def weighted_mean(tokens: Tensor, weights: Tensor) -> Tensor:
    """Return the means of (n, tokens, width) by (n, tokens) weights; zeros where all are 0."""
    total = weights.sum(dim=1, keepdim=True)
    shares = weights / total.clamp(min=1e-6)
    mean: Tensor = (tokens * shares[:, :, None]).sum(dim=1)
    return mean


def mean_frame(tokens: Tensor, weights: Tensor) -> Tensor:
    """Return the plain means of the (n, tokens, width) that are there: what `visual` indexes."""
    return weighted_mean(tokens, (weights > 0).to(tokens.dtype))


def modality_strength(*weights: Tensor) -> Tensor:
    """Return the mean weight of each modality's tokens that are there: (n, modalities)."""
    return torch.stack(
        [row.sum(dim=1) / (row > 0).sum(dim=1).clamp(min=1) for row in weights], dim=1
    )
