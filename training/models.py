"""The architectures of the project's own small models, and the fusion network.

The mini encoders are the published architectures at small size, in transformers' own classes:
CLIP (Radford et al. 2021) and Wav2Vec2 (Baevski et al. 2020).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from ensembles.contracts import Dimensions
from training.tuning.tokens import END, START, mini_tokenizer

STEM_CHANNELS = (32, 64)
MASKED = -1e4  # a logit that softmax turns into zero, and fp16 can hold

FUSION_QUERIES = 4
FUSION_WIDTH = 128  # inside, whatever the tokens' widths are
FUSION_HEADS = 4
FUSION_LAYERS = 2
WINDOW_FRAMES = 3  # of the sliding mean over neighbouring frames


def mini_clip(dims: Dimensions, seed: int, attention: str = "eager") -> CLIPModel:
    """Return the mini CLIP with its initial weights.

    Args:
        dims: the profile's sizes.
        seed: of the weights.
        attention: transformers' name of the implementation; "eager" can be exported.
    """
    torch.manual_seed(seed)
    tokenizer = mini_tokenizer()
    end = tokenizer.token_to_id(END)
    text = CLIPTextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=384,
        num_attention_heads=2,
        num_hidden_layers=3,
        hidden_act="gelu",
        max_position_embeddings=dims.clip_tokens,
        bos_token_id=tokenizer.token_to_id(START),
        eos_token_id=end,
        pad_token_id=end,
    )
    vision = CLIPVisionConfig(
        image_size=dims.image_size_px,
        patch_size=12,
        hidden_size=128,
        intermediate_size=384,
        num_attention_heads=2,
        num_hidden_layers=4,
        hidden_act="gelu",
    )
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=dims.vision
    )
    clip = cast(CLIPModel, CLIPModel._from_config(config, attn_implementation=attention))
    clip.vision_model.embeddings.patch_embedding = Stem(config.vision_config.hidden_size)
    return clip.eval()


class Stem(nn.Module):
    """Three convolutions instead of one for the patches of 12 pixels: 2 × 2 × 3.

    A transformer sees shapes many times sooner with a stem of convolutions (Xiao et al. 2021,
    "Early convolutions help transformers see better").
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.edges = nn.Conv2d(3, STEM_CHANNELS[0], kernel_size=5, stride=2, padding=2)
        self.corners = nn.Conv2d(*STEM_CHANNELS, kernel_size=3, stride=2, padding=1)
        self.patches = nn.Conv2d(STEM_CHANNELS[1], width, kernel_size=5, stride=3, padding=1)

    @property
    def weight(self) -> Tensor:
        """Weights by whose dtype transformers casts the pixels."""
        return self.edges.weight

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, 96, 96) → (n, width, 8, 8)."""
        edges = functional.gelu(self.edges(pixels))
        found: Tensor = self.patches(functional.gelu(self.corners(edges)))
        return found


class SoundEncoder(nn.Module):
    """Wav2Vec2, averaged over time and, where a width is given, projected: sound to one vector."""

    def __init__(self, encoder: Wav2Vec2Model, width: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = (
            nn.Identity() if width is None else nn.Linear(encoder.config.hidden_size, width, False)
        )

    def forward(self, audio: Tensor) -> Tensor:
        """Embed (n, samples) of normalised 16 kHz sound; returns (n, width), not normalised."""
        hidden: Tensor = self.encoder(audio).last_hidden_state  # (n, frames of 20 ms, hidden)
        projected: Tensor = self.projection(hidden.mean(dim=1))
        return projected


def mini_sound_encoder(dims: Dimensions, seed: int, attention: str = "eager") -> SoundEncoder:
    """Return the mini Wav2Vec2 with its initial weights; arguments as those of `mini_clip`."""
    torch.manual_seed(seed)
    config = Wav2Vec2Config(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=256,
        conv_dim=(96, 96, 128),
        conv_kernel=(64, 8, 8),
        conv_stride=(32, 5, 4),  # 640 samples, 40 ms, together
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=8,
        feat_extract_norm="group",
        do_stable_layer_norm=True,
        apply_spec_augment=False,
        layerdrop=0.0,
        activation_dropout=0.0,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        feat_proj_dropout=0.0,
    )
    encoder = Wav2Vec2Model._from_config(config, attn_implementation=attention)
    return SoundEncoder(encoder, dims.audio).eval()


class Attention(nn.Module):
    """One layer of cross-attention from the queries to the tokens, and a feed-forward block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm, self.result_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asks = nn.Linear(width, width)
        self.keys = nn.Linear(width, width)
        self.values = nn.Linear(width, width)
        self.joins = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, queries: Tensor, tokens: Tensor, shares: Tensor) -> Tensor:
        """Let queries attend.

        Args:
            queries: (segments, queries, width).
            tokens: (segments, tokens, width).
            shares: (segments, tokens) ≥ 0 with the sum 1, or all 0; 0 is not attended to.
        """
        log_shares = torch.where(shares > 0, torch.log(shares.clamp(min=1e-9)), MASKED)
        asks = self._split(self.asks(self.query_norm(queries)))
        keys, values = self._split(self.keys(tokens)), self._split(self.values(tokens))
        logits = asks @ keys.transpose(2, 3) / keys.shape[-1] ** 0.5  # (s, heads, queries, tokens)
        attention = torch.softmax(logits + log_shares[:, None, None], dim=-1)
        attention = attention * (shares > 0).to(attention.dtype)[:, None, None]
        attended = (attention @ values).transpose(1, 2).flatten(2)
        queries = queries + self.joins(attended)
        result: Tensor = queries + self.feed_forward(self.result_norm(queries))
        return result

    def _split(self, tokens: Tensor) -> Tensor:
        """(s, n, width) → (s, heads, n, width of a head)."""
        rows, count, width = tokens.shape
        return tokens.view(rows, count, self.heads, width // self.heads).transpose(1, 2)


class Fusion(nn.Module):
    """PIX-weighted attention of a few learned queries over a segment's tokens.

    Beside the frames themselves the queries see what changes from each frame to the next and the
    sliding mean over WINDOW_FRAMES: that is how motion gets into the vector. A token's weight, its
    share of the video's PIX, enters the logits as a logarithm: softmax makes the shares relative,
    so scaling all of them changes nothing. A gate that starts at zero adds the result to the mean
    frame embedding, so the untrained network is exactly that mean.
    """

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.frames = nn.Linear(dims.vision, FUSION_WIDTH)
        self.changes = nn.Linear(dims.vision, FUSION_WIDTH)
        self.windows = nn.Linear(dims.vision, FUSION_WIDTH)
        self.audio = nn.Linear(dims.audio, FUSION_WIDTH)
        self.text = nn.Linear(dims.sentence, FUSION_WIDTH)
        self.norm = nn.LayerNorm(FUSION_WIDTH)
        self.queries = nn.Parameter(torch.randn(FUSION_QUERIES, FUSION_WIDTH) / FUSION_WIDTH**0.5)
        self.layers = nn.ModuleList(
            Attention(FUSION_WIDTH, FUSION_HEADS) for _ in range(FUSION_LAYERS)
        )
        self.output = nn.Linear(FUSION_QUERIES * FUSION_WIDTH, dims.fused)
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
        """Fuse the tokens of segments; weight 0 is padding.

        Args:
            frame_tokens: (segments, n, vision), in the order of time.
            frame_weights: (segments, n) ≥ 0.
            audio_tokens: (segments, m, audio).
            audio_weights: (segments, m) ≥ 0.
            text_tokens: (segments, t, sentence).
            text_weights: (segments, t) ≥ 0.

        Returns:
            (segments, fused) unit rows; zero where a segment has no frame and the gate is shut.
        """
        present = (frame_weights > 0).to(frame_tokens.dtype)[:, :, None]
        frames = frame_tokens * present
        changes, change_weights = frame_changes(frames, frame_weights)
        tokens = torch.cat(
            [
                self.frames(frames),
                self.changes(changes),
                self.windows(sliding_means(frames, present)),
                self.audio(audio_tokens),
                self.text(text_tokens),
            ],
            dim=1,
        )
        weights = [frame_weights, change_weights, frame_weights, audio_weights, text_weights]
        shares = torch.cat(weights, dim=1)
        shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-30)
        queries = self.queries + torch.zeros_like(tokens[:, :1])  # one set a segment
        tokens = self.norm(tokens)
        for layer in self.layers:
            queries = layer(queries, tokens, shares)
        attended = self.output(queries.flatten(1))
        mean = frames.sum(dim=1) / present.sum(dim=1).clamp(min=1)
        return functional.normalize(mean + self.gate * attended, dim=-1)


def frame_changes(frames: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return what changes from each frame to the next, and its weight: the mean of both frames'.

    Args:
        frames: (segments, n, width).
        weights: (segments, n); 0 is padding.

    Returns:
        (segments, n, width), of which the first is the change to nothing, and (segments, n), 0
        where one of both frames is not there.
    """
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    weights_before = torch.cat([torch.zeros_like(weights[:, :1]), weights[:, :-1]], dim=1)
    both = (weights > 0) & (weights_before > 0)
    return frames - before, torch.where(both, (weights + weights_before) / 2, 0.0)


def sliding_means(frames: Tensor, present: Tensor) -> Tensor:
    """Return the mean of each frame and its neighbours, WINDOW_FRAMES wide.

    Args:
        frames: (segments, n, width), zero where there is none.
        present: (segments, n, 1) of 0 and 1.
    """
    sums = _window_sums(frames)
    means: Tensor = sums / _window_sums(present).clamp(min=1)
    return means


def _window_sums(rows: Tensor) -> Tensor:
    """Sum neighbouring rows of (segments, n, width), WINDOW_FRAMES of them."""
    reach = WINDOW_FRAMES // 2
    padded = functional.pad(rows, (0, 0, reach, reach))
    length = rows.shape[1]
    return torch.stack([padded[:, i : i + length] for i in range(WINDOW_FRAMES)]).sum(dim=0)


def fusion(dims: Dimensions, seed: int) -> Fusion:
    """Return the untrained fusion network: the mean frame embedding, by its closed gate."""
    torch.manual_seed(seed)
    return Fusion(dims).eval()
