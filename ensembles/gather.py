"""Tokens in the order of a chunk to one padded row a segment."""

import numpy as np

from ensembles.arrays import FloatArray, Int32Array


def gather(
    tokens: FloatArray, segment_of: Int32Array, weights: FloatArray, segments: int
) -> tuple[FloatArray, FloatArray]:
    """Put each token into the row of its segment; what is left over has weight 0.

    Args:
        tokens: (n, width).
        segment_of: (n,) the row of each token, 0 … segments - 1.
        weights: (n,) ≥ 0; a token of weight 0 is kept but never attended to.
        segments: how many rows.

    Returns:
        The tokens (segments, longest, width) and their weights (segments, longest); `longest` is
        at least 1.

    Raises:
        ValueError: a segment that is not there, or lengths that differ.
    """
    if not len(tokens) == len(segment_of) == len(weights):
        raise ValueError(
            f"{len(tokens)} tokens, {len(segment_of)} segment indices and {len(weights)} weights: "
            "expected as many of each"
        )
    if len(segment_of) and not 0 <= int(segment_of.min()) <= int(segment_of.max()) < segments:
        raise ValueError(f"segment indices must lie in 0…{segments - 1}, the transcripts' rows")
    counts = np.bincount(segment_of, minlength=segments)
    order = np.argsort(segment_of, kind="stable")
    starts = np.cumsum(counts) - counts
    rows = segment_of[order]
    columns = np.arange(len(tokens)) - starts[rows]
    longest = max(1, int(counts.max()))
    gathered = np.zeros((segments, longest, tokens.shape[1]), dtype=np.float32)
    gathered_weights = np.zeros((segments, longest), dtype=np.float32)
    gathered[rows, columns] = tokens[order]
    gathered_weights[rows, columns] = weights[order]
    return gathered, gathered_weights
