"""Texts to token ids as the text encoders read them: the one way, served or measured."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ensembles.contracts import ROLES, TextEncoder, bucket

TokenArray: TypeAlias = NDArray[np.int64]

SETTINGS = "tokenize.json"  # prefixes, limits, padding, beside clip.json, sentence.json …


def text_encoders(folder: Path) -> tuple[TextEncoder, ...]:
    """Return the text encoders whose tokenizers a bundle's `tokenize` folder has."""
    return tuple(name for name in get_args(TextEncoder) if (folder / f"{name}.json").is_file())


class BucketTokenizer:
    """One text encoder's tokenizer: prefixes by role, truncates, pads."""

    def __init__(self, folder: Path, encoder: TextEncoder) -> None:
        """Load it from the `tokenize` folder of a bundle, or that model's version folder."""
        settings = json.loads((folder / SETTINGS).read_text())
        self._encoder, self._limit = encoder, int(settings[f"{encoder}_tokens"])
        self._fixed = settings.get(f"{encoder}_padding") == "fixed"
        self._prefixes = dict.fromkeys(ROLES, "")
        if encoder == "sentence":  # CLIP does not tell queries from passages
            self._prefixes = {role: settings[f"{role}_prefix"] for role in ROLES}
        self._tokenizer = Tokenizer.from_file(str(folder / f"{encoder}.json"))
        self._tokenizer.no_padding()  # a checkpoint's file may ask for 128 tokens always
        self._tokenizer.enable_truncation(self._limit)

    def encode(self, texts: Sequence[str], roles: Sequence[str]) -> dict[str, TokenArray]:
        """Tokenize texts together.

        Args:
            texts: n of them, at least one.
            roles: one a text, each of `ROLES`.

        Returns:
            The encoder's inputs by name, `…_IDS` and `…_MASK`, int64, (n, tokens), the tokens
            padded to the bucket of the longest text, or to the limit where that is fixed.
        """
        prefixed = [self._prefixes[role] + text for text, role in zip(texts, roles, strict=True)]
        rows = self._tokenizer.encode_batch(prefixed)
        longest = self._limit if self._fixed else max(len(row.ids) for row in rows)
        width = bucket(longest, self._limit)
        for row in rows:
            row.pad(width)
        name = self._encoder.upper()
        return {
            f"{name}_IDS": np.array([row.ids for row in rows], dtype=np.int64),
            f"{name}_MASK": np.array([row.attention_mask for row in rows], dtype=np.int64),
        }
