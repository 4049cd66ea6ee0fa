"""Triton model `tokenize`: text to the token ids of the text encoders, padded to a bucket."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ensembles.contracts import MAX_TEXT_BYTES, ROLES
from ensembles.serving import answer_each, read
from ensembles.tokens import BucketTokenizer, text_encoders


class TritonPythonModel:
    """What Triton's Python backend loads."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the tokenizers from the version's folder."""
        folder = Path(args["model_repository"]) / args["model_version"]
        self._tokenizers = {
            encoder.upper(): BucketTokenizer(folder, encoder) for encoder in text_encoders(folder)
        }
        for tokenizer in self._tokenizers.values():  # the first text takes 30 ms and more
            tokenizer.encode(["warm up"], [ROLES[0]])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request; a text that is refused refuses its request."""
        return answer_each(requests, self._tokenize)

    def _tokenize(self, request: Any) -> dict[str, Any]:
        texts = [read_text(raw) for raw in read(request, "TEXT")[:, 0]]
        roles = [read_role(raw) for raw in read(request, "ROLE")[:, 0]]
        wanted = request.requested_output_names()
        return {
            name: ids
            for encoder, tokenizer in self._tokenizers.items()
            if any(name.startswith(encoder) for name in wanted)
            for name, ids in tokenizer.encode(texts, roles).items()
        }


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
