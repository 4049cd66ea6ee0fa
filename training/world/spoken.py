"""The sentence encoder of the mini profile, to embed transcripts with, and the words it knows."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, is_dataclass
from functools import cache

import torch
from tokenizers import Tokenizer
from torch import Tensor

from export.checkpoints import find_checkpoint
from export.profile_rows import TOKENIZER
from export.profiles import PROFILES
from export.weights import build_sentence
from training.bank import SentenceEncoder
from training.world import topics, words

BATCH = 64
LEAST_LETTERS = 4  # of a word; shorter ones stand in captions too


@cache
def strange_words() -> list[str]:
    """Return English words, of MiniLM's vocabulary, that no caption of the corpus uses."""
    folder = find_checkpoint("sentence", PROFILES["mini"].sentence.checkpoint)
    known = {
        word
        for module in (words, topics)
        for value in vars(module).values()
        for text in _texts(value)
        for word in re.findall("[a-z]+", text.lower())
    }
    vocabulary = Tokenizer.from_file(str(folder / TOKENIZER)).get_vocab()
    return sorted(
        word
        for word in vocabulary.keys() - known
        if len(word) >= LEAST_LETTERS and re.fullmatch("[a-z]+", word)
    )


def _texts(value: object) -> Iterator[str]:
    """Return all strings of a table, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _texts(inner)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _texts(astuple(value))


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
