"""The torch models of a profile: from checkpoints, or the true architecture at random."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    ClapModel,
    CLIPModel,
    PreTrainedModel,
    SiglipModel,
    Wav2Vec2Model,
)

from export.log_mel import MELS
from export.modules import Sentence
from export.profile_rows import Checkpoint, ClipModel, Profile, SoundModel
from gateway.errors import ConfigurationError
from training.models import Fusion, SoundEncoder, fusion, mini_clip, mini_sound_encoder
from training.trained import load_clip, load_fusion, load_sound

EAGER = {"attn_implementation": "eager"}  # plain operators, which the ONNX file can hold
UNREAD = ("pooler.", "masked_spec_embed")  # weights that no embedding depends on


def build_clip(profile: Profile, folder: Path | None) -> CLIPModel:
    """Return both towers; `folder` None: random weights."""
    checkpoint = profile.clip.checkpoint
    if checkpoint is None:
        return load_clip(profile.dims, folder) if folder else mini_clip(profile.dims, profile.seed)
    model = cast(CLIPModel, _build(CLIPModel, checkpoint, folder, profile.seed))
    vision = model.config.vision_config
    _check("clip", "projection_dim", model.config.projection_dim, profile.clip.width)
    _check("clip", "vision_config.image_size", vision.image_size, profile.clip.image_size_px)
    tokens = model.config.text_config.max_position_embeddings
    _check("clip", "text_config.max_position_embeddings", tokens, profile.clip.tokens)
    return model


def build_siglip(profile: Profile, folder: Path | None) -> SiglipModel:
    """Return both towers of a SigLIP of one resolution; `folder` None: random weights."""
    model = cast(SiglipModel, _build(SiglipModel, _needed(profile.clip), folder, profile.seed))
    text, vision = model.config.text_config, model.config.vision_config
    _check("clip", "text_config.projection_size", text.projection_size, profile.clip.width)
    _check("clip", "vision_config.hidden_size", vision.hidden_size, profile.clip.width)
    _check("clip", "vision_config.image_size", vision.image_size, profile.clip.image_size_px)
    tokens = text.max_position_embeddings
    _check("clip", "text_config.max_position_embeddings", tokens, profile.clip.tokens)
    return model


def build_clap(profile: Profile, folder: Path | None) -> ClapModel:
    """Return both towers of an unfused CLAP; `folder` None: random weights.

    Raises:
        ConfigurationError: the checkpoint is broken, of another size, or a fused one, which reads
            four spectrograms of a sound.
    """
    model = cast(ClapModel, _build(ClapModel, _needed(profile.audio), folder, profile.seed))
    _check("audio", "projection_dim", model.config.projection_dim, profile.audio.width)
    audio = model.config.audio_config
    _check("audio", "audio_config.enable_fusion", audio.enable_fusion, False)
    _check("audio", "audio_config.num_mel_bins", audio.num_mel_bins, MELS)
    return model


def build_sentence(profile: Profile, folder: Path | None) -> Sentence:
    """Return the sentence encoder; `folder` None: random weights."""
    checkpoint = profile.sentence.checkpoint
    model = _build(AutoModel, checkpoint, folder, profile.seed)
    _check("sentence", "hidden_size", model.config.hidden_size, profile.sentence.width)
    return Sentence(model, profile.sentence.pooling)


def build_sound(profile: Profile, folder: Path | None) -> SoundEncoder:
    """Return the sound encoder; `folder` None: random weights."""
    checkpoint = profile.audio.checkpoint
    if checkpoint is None:
        if folder:
            return load_sound(profile.dims, folder)
        return mini_sound_encoder(profile.dims, profile.seed + 1)
    model = _build(Wav2Vec2Model, checkpoint, folder, profile.seed)
    _check("audio", "hidden_size", model.config.hidden_size, profile.audio.width)
    return SoundEncoder(model).eval()


def build_fusion(profile: Profile, folder: Path | None) -> Fusion:
    """Return the fusion network; `folder` None: untrained, which is the mean frame embedding."""
    return load_fusion(profile.dims, folder) if folder else fusion(profile.dims, profile.seed + 2)


def check_finite(name: str, model: nn.Module) -> None:
    """Raise `ConfigurationError` that names the first weight with NaN or infinity in it."""
    for weight, values in model.state_dict().items():
        if values.is_floating_point() and not torch.isfinite(values).all():
            bad = int((~torch.isfinite(values)).sum())
            raise ConfigurationError(
                f"the weights of {name} are broken: {weight} has {bad} numbers that are NaN or "
                f"infinite of {values.numel()}; fetch the checkpoint again"
            )


def _build(kind: Any, checkpoint: Checkpoint, folder: Path | None, seed: int) -> PreTrainedModel:
    """Load a checkpoint's folder, or draw the weights of its architecture from a seed.

    Args:
        kind: the class of transformers to load with, or AutoModel.
        checkpoint: the profile's row.
        folder: of the checkpoint, or None.
        seed: of the random weights.
    """
    if folder is None:
        torch.manual_seed(seed)
        config = AutoConfig.for_model(**checkpoint.architecture)
        return cast(PreTrainedModel, AutoModel.from_config(config, **EAGER).eval())
    try:
        loaded, info = kind.from_pretrained(folder, output_loading_info=True, **EAGER)
    except Exception as error:
        raise ConfigurationError(
            f"the checkpoint in {folder} cannot be loaded as {checkpoint.hub}: {error}"
        ) from error
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(UNREAD))
    if missing:  # transformers would fill them at random
        raise ConfigurationError(
            f"the checkpoint in {folder} lacks {len(missing)} weights of {checkpoint.hub}, "
            f"{missing[0]} among them"
        )
    return cast(PreTrainedModel, loaded.eval())


def _needed(row: ClipModel | SoundModel) -> Checkpoint:
    if row.checkpoint is None:
        raise ConfigurationError(f"{row.title} needs a checkpoint; its row in the table has none")
    return row.checkpoint


def _check(model: str, key: str, found: int, expected: int) -> None:
    if found != expected:
        raise ConfigurationError(
            f"the checkpoint of {model} has {key} {found}, the profile expects {expected}"
        )
