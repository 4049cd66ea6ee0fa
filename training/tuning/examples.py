"""Queries and what they are to find, as arrays: what fine-tuning learns from. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ensembles.arrays import FloatArray
from gateway.errors import InvalidRequest

Int64Array: TypeAlias = NDArray[np.int64]

LEAST_FOUND = 10  # segments, or images: so that each part has one at least, and training several
SHARES = (0.7, 0.15)  # of them: to train on, to stop by; what is left is held out


@dataclass(frozen=True)
class TokenRows:
    """The tokens of one modality, segment after segment."""

    tokens: FloatArray  # (tokens, width)
    weights: FloatArray  # (tokens,) > 0
    starts: Int64Array  # (segments + 1,) where each segment's tokens begin

    def padded(self, segments: Int64Array) -> tuple[FloatArray, FloatArray]:
        """Return some segments' tokens (n, longest, width) and weights (n, longest).

        What is left over has weight 0; `longest` is at least 1.
        """
        begins, ends = self.starts[segments], self.starts[segments + 1]
        columns = np.arange(max(1, int((ends - begins).max(initial=0))))
        at = begins[:, None] + columns  # (n, longest)
        there = at < ends[:, None]
        padded = np.zeros((*at.shape, self.tokens.shape[1]), np.float32)
        weights = np.zeros(at.shape, np.float32)
        padded[there] = self.tokens[at[there]]
        weights[there] = self.weights[at[there]]
        return padded, weights


def token_rows(
    tokens: FloatArray, weights: FloatArray, owners: Int64Array, count: int
) -> TokenRows:
    """Sort tokens by their segment, in their order within it.

    Args:
        tokens: (n, width).
        weights: (n,); a token of weight 0 is left out.
        owners: (n,) the segment of each, 0 … count - 1.
        count: of segments.
    """
    present = weights > 0
    tokens, weights, owners = tokens[present], weights[present], owners[present]
    order = np.argsort(owners, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count))])
    return TokenRows(tokens[order], weights[order], starts.astype(np.int64))


def unpadded(tokens: FloatArray, weights: FloatArray) -> TokenRows:
    """Return padded tokens (segments, longest, width) with weights (segments, longest) as rows."""
    count, longest = weights.shape
    owners = np.repeat(np.arange(count), longest)
    return token_rows(tokens.reshape(-1, tokens.shape[2]), weights.reshape(-1), owners, count)


@dataclass(frozen=True)
class TokenTable:
    """The tokens of segments in all modalities."""

    frames: TokenRows  # of (vision,)
    audio: TokenRows  # of (audio,)
    text: TokenRows  # of (sentence,)

    def __len__(self) -> int:
        return len(self.frames.starts) - 1

    def padded(self, segments: Int64Array) -> tuple[FloatArray, ...]:
        """Return the tokens of some segments as `Fusion.forward` takes them: six arrays."""
        return (
            *self.frames.padded(segments),
            *self.audio.padded(segments),
            *self.text.padded(segments),
        )


@dataclass(frozen=True)
class Examples:
    """Queries, segments, and which of them belong together."""

    segment_ids: tuple[str, ...]
    tokens: TokenTable  # of the segments
    queries: tuple[str, ...]
    words: FloatArray  # (queries, vision) the queries' CLIP embeddings, unit rows
    sentences: FloatArray  # (queries, sentence) their sentence embeddings, unit rows
    pairs: Int64Array  # (pairs, 2) a query and a segment that it is to find


@dataclass(frozen=True)
class Split:
    """Pairs in three parts; no segment is in two of them."""

    train: Int64Array  # (pairs, 2), and so are the others
    validation: Int64Array
    held_out: Int64Array


def split(pairs: Int64Array, queries: Sequence[str], found: Sequence[str], seed: int) -> Split:
    """Part pairs by what they find.

    Args:
        pairs: (pairs, 2) of a query and what it is to find, a segment or an image.
        queries: the queries' words, for messages.
        found: the names of what is found.
        seed: of the parting.

    Raises:
        InvalidRequest: there is nothing to tell apart, or too little to part.
    """
    check_contrast(pairs, queries, found)
    things = np.unique(pairs[:, 1])
    if len(things) < LEAST_FOUND:
        raise InvalidRequest(
            f"the pairs name {len(things)} things to find; {LEAST_FOUND} are needed at least, to "
            "train on some and to judge by others: add pairs"
        )
    mixed = np.random.default_rng(seed).permutation(things)
    edges = np.cumsum([round(share * len(things)) for share in SHARES])
    parts = [pairs[np.isin(pairs[:, 1], part)] for part in np.split(mixed, edges)]
    check_contrast(parts[0], queries, found)
    return Split(*parts)


def part(examples: Examples, seed: int) -> Split:
    """Part the pairs of examples; arguments and errors as of `split`."""
    return split(examples.pairs, examples.queries, examples.segment_ids, seed)


def check_contrast(pairs: Int64Array, queries: Sequence[str], found: Sequence[str]) -> None:
    """Refuse pairs that are of one class: there is nothing to tell them apart from.

    Raises:
        InvalidRequest: there is no pair, or all have one query or find one thing.
    """
    if not len(pairs):
        raise InvalidRequest("there are no pairs to train on")
    for column, names, what in ((0, queries, "ask"), (1, found, "find")):
        if len(np.unique(pairs[:, column])) == 1:
            raise InvalidRequest(
                f"all {len(pairs)} pairs that are trained on {what} the same, "
                f"{names[pairs[0, column]]!r}: training tells things apart, so add others"
            )


def is_pair(pairs: Int64Array, queries: Int64Array, found: Int64Array) -> NDArray[np.bool_]:
    """Say which of these queries and things belong together: (queries, found)."""
    width = 1 + max(int(pairs[:, 1].max(initial=0)), int(found.max(initial=0)))
    keys = queries[:, None] * width + found[None, :]
    return np.isin(keys, pairs[:, 0] * width + pairs[:, 1])


def ranks(scores: FloatArray, pairs: Int64Array, found: Int64Array, known: Int64Array) -> list[int]:
    """Return for each pair the rank of what it finds, among all that is found.

    A query's other right answers are passed over. Of equal scores the right one comes last, so
    that a model that says the same of everything finds nothing.

    Args:
        scores: (queries, found) of all queries.
        pairs: (pairs, 2) that are judged.
        found: (found,) what the scores are of, ascending; all that the pairs find is there.
        known: (known, 2) all pairs, the judged ones among them.
    """
    queries = pairs[:, 0]
    of_pairs = scores[queries]  # (pairs, found)
    own = of_pairs[np.arange(len(queries)), np.searchsorted(found, pairs[:, 1])]
    as_good = of_pairs >= own[:, None]
    as_good &= ~is_pair(known, queries, found)
    places: list[int] = (as_good.sum(axis=1) + 1).tolist()
    return places
