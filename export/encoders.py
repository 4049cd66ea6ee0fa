"""The models of a profile, built from their checkpoints and written as files."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import onnxruntime as ort
from torch import nn
from transformers.utils import logging as transformers_logging

from ensembles.bundle import Band
from ensembles.contracts import models
from export.calibration import sound_band, visual_band
from export.modules import ClipText, ClipVision, Sentence, Sound
from export.onnx import export_onnx
from export.profiles import Profile
from training.models import fusion, mini_clip, mini_sound_encoder, mini_tokenizer

CALIBRATION_SEED = 7


def write_models(
    profile: Profile,
    sentence_folder: Path,
    staging: Path,
    progress: Callable[[str, int, int], None],
) -> dict[str, Band]:
    """Write one folder of files a model.

    Args:
        profile: what to build.
        sentence_folder: the sentence encoder's checkpoint.
        staging: the folder to fill.
        progress: told of each step.

    Returns:
        The calibration bands that were measured: visual, sound and fused.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    contracts = models(profile.dims)
    builders = _builders(profile, sentence_folder)
    for done, (name, build) in enumerate(builders.items()):
        progress(f"export {name}", done, len(builders) + 1)
        (staging / name).mkdir()
        export_onnx(build(), contracts[name], staging / name / "model.onnx")
    _write_tokenizers(profile, sentence_folder, staging / "tokenize")
    progress("calibrate", len(builders), len(builders) + 1)
    visual = visual_band(
        _session(staging / "clip_vision"), profile.dims.image_size_px, CALIBRATION_SEED
    )
    sound = sound_band(_session(staging / "wav2vec2"), CALIBRATION_SEED)
    progress("done", len(builders) + 1, len(builders) + 1)
    return {"visual": visual, "sound": sound, "fused": visual}


def _builders(profile: Profile, sentence_folder: Path) -> dict[str, Callable[[], nn.Module]]:
    clip = mini_clip(profile.dims, profile.clip.seed)
    return {
        "clip_text": lambda: ClipText(clip),
        "clip_vision": lambda: ClipVision(clip),
        "sentence": lambda: Sentence(sentence_folder),
        "wav2vec2": lambda: Sound(mini_sound_encoder(profile.dims, profile.audio.seed)),
        "fusion": lambda: fusion(profile.dims, profile.fusion.seed),
    }


def _write_tokenizers(profile: Profile, sentence_folder: Path, folder: Path) -> None:
    folder.mkdir()
    mini_tokenizer().save(str(folder / "clip.json"))
    shutil.copy(sentence_folder / "tokenizer.json", folder / "sentence.json")
    settings = {
        "query_prefix": profile.query_prefix,
        "passage_prefix": profile.passage_prefix,
        "clip_tokens": profile.dims.clip_tokens,
        "sentence_tokens": profile.dims.sentence_tokens,
    }
    (folder / "tokenize.json").write_bytes(msgspec.json.encode(settings))


def _session(folder: Path) -> ort.InferenceSession:
    return ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
