"""What unrelated things score: the bands that make a leg's relevance absolute. Pure."""

import numpy as np

from ensembles.arrays import FloatArray
from ensembles.bundle import Band

BACKGROUND_QUANTILE = 0.9  # of the cosines of unrelated pairs: relevance is 0 up to here
IDENTICAL = 1.0
LEAST_WIDTH = 0.05  # of a band, where equivalents score hardly more than unrelated texts


def background_band(embeddings: FloatArray) -> Band:
    """Return the band from the cosines of all pairs of unrelated unit vectors, shape (n, width)."""
    cosines = (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), k=1)]
    return Band(low=float(np.quantile(cosines, BACKGROUND_QUANTILE)), high=IDENTICAL)


def equivalence_band(queries: FloatArray, answers: FloatArray) -> Band:
    """Return the band of a sentence encoder.

    Args:
        queries: (n, width) unit vectors.
        answers: (n, width), each in other words what the query of its row means.

    Returns:
        From the BACKGROUND_QUANTILE of the cosines of queries with other rows' answers up to the
        median of those with their own.
    """
    cosines = queries @ answers.T
    unrelated = cosines[~np.eye(len(cosines), dtype=bool)]
    low = float(np.quantile(unrelated, BACKGROUND_QUANTILE))
    return Band(low=low, high=max(float(np.median(np.diag(cosines))), low + LEAST_WIDTH))
