"""Texts through the sentence encoder of an export that is being written."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from ensembles.arrays import FloatArray
from export import samples
from export.precision import run_encoder
from export.profile_rows import Profile


def embed_sentences(profile: Profile, staging: Path, texts: Sequence[str]) -> FloatArray:
    """Return the embeddings of texts as they are, without the profile's prefixes, (n, sentence).

    Args:
        profile: whose encoder.
        staging: folder of the exported models.
        texts: n of them.
    """
    tokenizer = Tokenizer.from_file(str(staging / "tokenize" / "sentence.json"))
    sample = samples.TextSample(tokenizer, "SENTENCE", profile.sentence.tokens)
    return run_encoder(staging / "sentence" / "model.onnx", sample.sentences(texts))
