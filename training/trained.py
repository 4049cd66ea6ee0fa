"""The trained mini family as files: fp16 safetensors, the tokenizer, and how they were made."""

from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPModel

from ensembles.contracts import Dimensions
from export.profile_rows import OWN_FILES, OWN_WEIGHTS, TOKENIZER
from gateway.errors import ConfigurationError
from training.models import Fusion, SoundEncoder, fusion, mini_clip, mini_sound_encoder
from training.tuning.tokens import mini_tokenizer

REPORT = "training.json"
READABLE = 0o644  # by all: safetensors keeps its files to their owner


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the weights came about, and what they do."""

    seed: int
    command: str
    minutes: float
    recipe: dict[str, Any]
    figures: dict[str, dict[str, float]]  # recall on the held-out set, by what is compared


def save_trained(
    folder: Path, clip: CLIPModel, sound: SoundEncoder, fused: Fusion, report: Report
) -> None:
    """Write the weights, the tokenizer and the report into a folder; made where missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in (("clip", clip), ("audio", sound), ("fusion", fused)):
        halves = {key: rows.detach().half().contiguous() for key, rows in _floats(module).items()}
        save_file(halves, folder / OWN_FILES[name], metadata={"format": "pt"})
        (folder / OWN_FILES[name]).chmod(READABLE)
    mini_tokenizer().save(str(folder / TOKENIZER))
    save_report(folder, report)


def save_report(folder: Path, report: Report) -> None:
    """Write how the weights came about beside them."""
    (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report)))


def load_clip(dims: Dimensions, folder: Path = OWN_WEIGHTS) -> CLIPModel:
    """Return the trained mini CLIP in fp32; raises ConfigurationError where it does not fit."""
    clip = mini_clip(dims, seed=0)
    _load(clip, folder / OWN_FILES["clip"])
    return clip.eval()


def load_sound(dims: Dimensions, folder: Path = OWN_WEIGHTS) -> SoundEncoder:
    """Return the trained mini Wav2Vec2; raises ConfigurationError where it does not fit."""
    sound = mini_sound_encoder(dims, seed=0)
    _load(sound, folder / OWN_FILES["audio"])
    return sound.eval()


def load_fusion(dims: Dimensions, folder: Path = OWN_WEIGHTS) -> Fusion:
    """Return the trained fusion network; raises ConfigurationError where it does not fit."""
    fused = fusion(dims, seed=0)
    _load(fused, folder / OWN_FILES["fusion"])
    return fused.eval()


def _floats(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: rows for key, rows in module.state_dict().items() if rows.is_floating_point()}


def _load(module: nn.Module, path: Path) -> None:
    try:
        found = {key: rows.float() for key, rows in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}; expected the trained mini's weights: install the "
            "package again, or run make train"
        ) from error
    expected = {key: rows.shape for key, rows in _floats(module).items()}
    unlike = sorted(
        key
        for key in expected.keys() | found.keys()
        if key not in found or key not in expected or found[key].shape != expected[key]
    )
    if unlike:
        raise ConfigurationError(
            f"{path} has other weights than this version's architecture: {len(unlike)} differ, "
            f"{unlike[0]} among them; run make train"
        )
    module.load_state_dict(found, strict=False)
