"""The tokenizers of a bundle: the checkpoints' own, and what stands in where there is none."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
from tokenizers import Tokenizer, normalizers

from ensembles.tokens import SETTINGS
from export.profile_rows import TOKENIZER, Profile
from training.tuning.tokens import END, START, byte_tokenizer, put_marks

CLIP_WORDS = 49_408  # of CLIP, as published


def write_tokenizers(profile: Profile, folders: Mapping[str, Path], folder: Path) -> None:
    """Write the tokenizers of the text encoders, and their settings.

    Args:
        profile: what is exported.
        folders: where tokenizers are, by the model's name; `sentence` always. Without `clip` there
            is `clip_stand_in`; without `audio` the texts for sounds are read as sentences are.
        folder: to make.
    """
    folder.mkdir()
    shutil.copy(folders["sentence"] / TOKENIZER, folder / "sentence.json")
    if "clip" in folders:
        shutil.copy(folders["clip"] / TOKENIZER, folder / "clip.json")
    else:
        clip_stand_in(profile, folder / "sentence.json").save(str(folder / "clip.json"))
    if profile.clip.lowercase:
        _lower_case(folder / "clip.json")
    if profile.audio.text_tokens:
        source = folders.get("audio", folders["sentence"])
        shutil.copy(source / TOKENIZER, folder / "sound_text.json")
    (folder / SETTINGS).write_bytes(msgspec.json.encode(_settings(profile)))


def clip_stand_in(profile: Profile, sentence: Path) -> Tokenizer:
    """Return a tokenizer for a CLIP that came without one.

    It cuts words as the sentence encoder's does, between marks of CLIP's kind: about as many tokens
    as CLIP's own would be. Where CLIP knows fewer words than that, it cuts bytes.

    Args:
        profile: whose CLIP.
        sentence: the sentence encoder's tokenizer.
    """
    checkpoint = profile.clip.checkpoint
    if checkpoint is None:
        return byte_tokenizer()
    tokenizer = Tokenizer.from_file(str(sentence))
    tokenizer.add_special_tokens([START, END])  # after all words: CLIP pools at the highest id
    known = checkpoint.architecture["text_config"].get("vocab_size", CLIP_WORDS)
    if tokenizer.get_vocab_size() > known:
        return byte_tokenizer()
    put_marks(tokenizer)
    return tokenizer


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
