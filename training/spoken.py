"""The sentence encoder of the mini profile, to embed the corpus's transcripts with."""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from export.checkpoints import find_checkpoint
from export.profiles import PROFILES, TOKENIZER
from export.weights import build_sentence
from training.bank import SentenceEncoder

BATCH = 64


def mini_sentences() -> SentenceEncoder:
    """Return all-MiniLM-L6-v2 as a function; each text is embedded once.

    Raises:
        ConfigurationError: its weights are not installed.
    """
    profile = PROFILES["mini"]
    folder = find_checkpoint("sentence", profile.sentence.checkpoint)
    encoder = build_sentence(profile, folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.enable_truncation(profile.sentence.tokens)
    tokenizer.enable_padding()

    def embed(texts: Sequence[str]) -> Tensor:
        different = sorted(set(texts))
        starts = range(0, len(different), BATCH)
        rows = [_embed(different[start : start + BATCH]) for start in starts]
        place = {text: number for number, text in enumerate(different)}
        return torch.cat(rows)[[place[text] for text in texts]]

    def _embed(texts: list[str]) -> Tensor:
        encoded = tokenizer.encode_batch(texts)
        ids = torch.tensor([row.ids for row in encoded])
        mask = torch.tensor([row.attention_mask for row in encoded])
        with torch.no_grad():
            found: Tensor = encoder(ids, mask)
        return found

    return embed
