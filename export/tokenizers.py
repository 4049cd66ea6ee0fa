"""The tokenizers of a bundle: the checkpoints' own, and what stands in where there is none."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
from tokenizers import Tokenizer, normalizers

from ensembles.tokens import SETTINGS
from export.profile_rows import TOKENIZER, Profile
from training.tuning.tokens import byte_tokenizer


def write_tokenizers(profile: Profile, folders: Mapping[str, Path], folder: Path) -> None:
    """Write the tokenizers of the text encoders, and their settings.

    Args:
        profile: what is exported.
        folders: where tokenizers are, by the model's name; `sentence` always. Without `clip` its
            tokens are bytes; without `audio` the texts for sounds are read as sentences are.
        folder: to make.
    """
    folder.mkdir()
    shutil.copy(folders["sentence"] / TOKENIZER, folder / "sentence.json")
    if "clip" in folders:
        shutil.copy(folders["clip"] / TOKENIZER, folder / "clip.json")
    else:
        byte_tokenizer().save(str(folder / "clip.json"))
    if profile.clip.lowercase:
        _lower_case(folder / "clip.json")
    if profile.audio.text_tokens:
        source = folders.get("audio", folders["sentence"])
        shutil.copy(source / TOKENIZER, folder / "sound_text.json")
    (folder / SETTINGS).write_bytes(msgspec.json.encode(_settings(profile)))


def _lower_case(path: Path) -> None:
    """Have a tokenizer lower the case of texts before all else that it does."""
    tokenizer = Tokenizer.from_file(str(path))
    own = [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    tokenizer.save(str(path))


def _settings(profile: Profile) -> dict[str, str | int]:
    """Return what `ensembles/tokens.py` reads."""
    dims = profile.dims
    return {
        "query_prefix": profile.sentence.query_prefix,
        "passage_prefix": profile.sentence.passage_prefix,
        "clip_tokens": dims.clip_tokens,
        "clip_padding": dims.clip_padding,
        "sentence_tokens": dims.sentence_tokens,
        "sound_text_tokens": dims.sound_text_tokens,
    }
