"""Which items of a batch job share a call: those that are padded to one size. Pure."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensembles.contracts import TOKEN_BUCKETS, bucket

LETTERS_A_TOKEN = 6  # longer words are several tokens
WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Item:
    """One text, or the path of one image.

    `padded` is what it is padded to, in tokens or bytes: only equals share a call. An item with an
    `error` is not sent.
    """

    id: int | str
    content: str | Path
    padded: int = 1
    error: str = ""


def plan_batches(items: Sequence[Item], most: int, call_bytes: int) -> list[list[int]]:
    """Put items of one padded size together: the places of each batch's items.

    Args:
        items: those with an error are left out.
        most: items a batch.
        call_bytes: what a batch's padded items have together, unless it is one item.
    """
    alike: dict[int, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        if not item.error:
            alike[item.padded].append(place)
    batches = []
    for padded, places in alike.items():
        size = max(1, min(most, call_bytes // padded))
        batches += [places[start : start + size] for start in range(0, len(places), size)]
    return batches


def padded_tokens(text: str) -> int:
    """Estimate the bucket that a text's tokens are padded to; exact counting is the server's."""
    tokens = 2 + sum(1 + (len(word) - 1) // LETTERS_A_TOKEN for word in WORD.findall(text))
    return bucket(tokens, TOKEN_BUCKETS[-1])


def padded_bytes(size: int) -> int:
    """Return the power of two that a file's size is counted as."""
    return 1 << max(0, size - 1).bit_length()
