"""Triton model `tokenize`: text to the token ids of both text encoders, padded to a bucket."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from ensembles.contracts import MAX_TEXT_BYTES, ROLES, bucket
from ensembles.serving import answer_each, read


class TritonPythonModel:
    """What Triton's Python backend loads."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load both tokenizers and the prefixes from the version's folder."""
        folder = Path(args["model_repository"]) / args["model_version"]
        settings = json.loads((folder / "tokenize.json").read_text())
        self._prefixes = {role: settings[f"{role}_prefix"] for role in ROLES}
        self._limits = {"CLIP": settings["clip_tokens"], "SENTENCE": settings["sentence_tokens"]}
        self._tokenizers = {
            "CLIP": Tokenizer.from_file(str(folder / "clip.json")),
            "SENTENCE": Tokenizer.from_file(str(folder / "sentence.json")),
        }
        for encoder, tokenizer in self._tokenizers.items():
            tokenizer.no_padding()  # a checkpoint's file may ask for 128 tokens always
            tokenizer.enable_truncation(self._limits[encoder])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request; a text that is refused refuses its request."""
        return answer_each(requests, self._tokenize)

    def _tokenize(self, request: Any) -> dict[str, Any]:
        texts, roles = read(request, "TEXT")[:, 0], read(request, "ROLE")[:, 0]
        pairs = [(read_text(t), read_role(r)) for t, r in zip(texts, roles, strict=True)]
        wanted = request.requested_output_names()
        return {
            name: ids
            for encoder in self._tokenizers
            if any(name.startswith(encoder) for name in wanted)
            for name, ids in self._encode(encoder, pairs)
        }

    def _encode(self, encoder: str, pairs: list[tuple[str, str]]) -> list[tuple[str, Any]]:
        prefixes = self._prefixes if encoder == "SENTENCE" else dict.fromkeys(ROLES, "")
        rows = self._tokenizers[encoder].encode_batch([prefixes[r] + text for text, r in pairs])
        width = bucket(max(len(row.ids) for row in rows), self._limits[encoder])
        for row in rows:
            row.pad(width)
        return [
            (f"{encoder}_IDS", np.array([row.ids for row in rows], dtype=np.int64)),
            (f"{encoder}_MASK", np.array([row.attention_mask for row in rows], dtype=np.int64)),
        ]


def read_text(raw: bytes) -> str:
    """Decode one text; refuses what is too long or not UTF-8."""
    if len(raw) > MAX_TEXT_BYTES:
        raise ValueError(f"TEXT has {len(raw)} bytes; at most {MAX_TEXT_BYTES} are taken")
    return raw.decode()


def read_role(raw: bytes) -> str:
    """Decode one role; refuses any but those of the contract."""
    role = raw.decode(errors="replace")
    if role not in ROLES:
        raise ValueError(f"ROLE is {role!r}; expected one of {', '.join(ROLES)}")
    return role
