"""The architectures of the project's own small models, and the fusion network.

The mini encoders are the published architectures at small size, in transformers' own classes:
CLIP (Radford et al. 2021) and Wav2Vec2 (Baevski et al. 2020).
"""

from typing import cast

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
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

START, END = "<|startoftext|>", "<|endoftext|>"
MASKED = -1e4  # a logit that softmax turns into zero, and fp16 can hold

FUSION_QUERIES = 4


def mini_tokenizer() -> Tokenizer:
    """Return the mini CLIP's tokenizer: bytes, between a start and an end token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate([*alphabet, START, END])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])],
    )
    return tokenizer


def mini_clip(dims: Dimensions, seed: int) -> CLIPModel:
    """Return the mini CLIP with its initial weights."""
    torch.manual_seed(seed)
    tokenizer = mini_tokenizer()
    end = tokenizer.token_to_id(END)
    shared = {"hidden_size": 192, "intermediate_size": 768, "num_attention_heads": 3}
    text = CLIPTextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        num_hidden_layers=3,
        max_position_embeddings=dims.clip_tokens,
        bos_token_id=tokenizer.token_to_id(START),
        eos_token_id=end,
        pad_token_id=end,
        **shared,
    )
    vision = CLIPVisionConfig(
        image_size=dims.image_size_px, patch_size=16, num_hidden_layers=4, **shared
    )
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=dims.vision
    )
    return cast(CLIPModel, CLIPModel._from_config(config, attn_implementation="eager").eval())


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


def mini_sound_encoder(dims: Dimensions, seed: int) -> SoundEncoder:
    """Return the mini Wav2Vec2 with its initial weights."""
    torch.manual_seed(seed)
    config = Wav2Vec2Config(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        conv_dim=(64,) * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=8,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    encoder = Wav2Vec2Model._from_config(config, attn_implementation="eager")
    return SoundEncoder(encoder, dims.audio).eval()


class Fusion(nn.Module):
    """PIX-weighted attention of a few learned queries over a segment's tokens.

    A token's weight, its share of the video's PIX, enters the logits as a logarithm: softmax makes
    the shares relative, so scaling all of them changes nothing. A gate that starts at zero adds
    the result to the mean frame embedding, so the untrained network is exactly that mean.
    """

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        width = dims.fused
        self.frames = nn.Linear(dims.vision, width)
        self.audio = nn.Linear(dims.audio, width)
        self.text = nn.Linear(dims.sentence, width)
        self.queries = nn.Parameter(torch.randn(FUSION_QUERIES, width) / width**0.5)
        self.values = nn.Linear(width, width)
        self.output = nn.Linear(FUSION_QUERIES * width, width)
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
            frame_tokens: (segments, n, vision), and its weights (segments, n).
            frame_weights: (segments, n) ≥ 0.
            audio_tokens: (segments, m, audio).
            audio_weights: (segments, m) ≥ 0.
            text_tokens: (segments, t, sentence).
            text_weights: (segments, t) ≥ 0.

        Returns:
            (segments, fused) unit rows; zero where a segment has no frame and the gate is shut.
        """
        keys = torch.cat(
            [self.frames(frame_tokens), self.audio(audio_tokens), self.text(text_tokens)], dim=1
        )
        weights = torch.cat([frame_weights, audio_weights, text_weights], dim=1)
        log_weights = torch.where(weights > 0, torch.log(weights.clamp(min=1e-6)), MASKED)
        logits = self.queries @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5  # (s, queries, tokens)
        attention = torch.softmax(logits + log_weights[:, None, :], dim=-1)
        attended = self.output((attention @ self.values(keys)).flatten(1))
        present = (frame_weights > 0).to(frame_tokens.dtype)[:, :, None]
        mean = (frame_tokens * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
        return functional.normalize(mean + self.gate * attended, dim=-1)


def fusion(dims: Dimensions, seed: int) -> Fusion:
    """Return the untrained fusion network: the mean frame embedding, by its closed gate."""
    torch.manual_seed(seed)
    return Fusion(dims).eval()
