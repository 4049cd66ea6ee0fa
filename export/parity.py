"""Whether two ways of computing an embedding agree: outputs to a report. Pure.

A file that ONNX Runtime runs must return what torch returns (fp32), a padded text what the cut one
returns, an int8 file nearly the same vectors and the same neighbours, and an fp16 file nearly the
same vectors. What fails is not served.
"""

import msgspec
import numpy as np

from ensembles.arrays import FloatArray
from export.profile_rows import Precision

FP32_COSINE = 0.9999  # least, against torch
PADDING_COSINE = 0.99999  # least, of a cut CLIP text against the padded one
INT8_COSINE = 0.99  # mean, against fp32
FP16_COSINE = 0.999  # mean, against fp32
INT8_OVERLAP = 0.95  # mean share of the NEIGHBOURS nearest that int8 keeps
NEIGHBOURS = 10
FARTHEST = 2.0  # difference of two numbers in -1…1: what a vector with NaN is given


class Likeness(msgspec.Struct, frozen=True):
    """How near candidates are to their references, row by row."""

    rows: int
    finite: bool
    least_cosine: float
    mean_cosine: float
    largest_difference: float  # of one number of a unit vector


class EncoderReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one encoder, and what is served therefore."""

    model: str
    precision: Precision  # of the file that is kept: fp32, int8 or fp16
    megabytes: float  # of that file
    fp32: Likeness  # ONNX Runtime against torch
    padding: Likeness | None = None  # a padded text against the cut one
    int8: Likeness | None = None  # the best int8 file against fp32
    fp16: Likeness | None = None  # the fp16 file against fp32
    overlap: float | None = None  # of int8's, or fp16's, nearest neighbours with those of fp32
    recipe: str = ""  # what that int8 file quantises
    verdict: str = ""  # why this precision


def compare(reference: FloatArray, candidate: FloatArray) -> Likeness:
    """Compare unit vectors row by row, both (rows, width); NaN and infinity are as far as can be.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes {reference.shape} and {candidate.shape} cannot be compared")
    if not (np.isfinite(reference).all() and np.isfinite(candidate).all()):
        return Likeness(len(candidate), False, -1.0, -1.0, FARTHEST)
    cosines = _cosines(reference, candidate)
    return Likeness(
        rows=len(candidate),
        finite=True,
        least_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        largest_difference=float(np.abs(reference - candidate).max()),
    )


def _cosines(reference: FloatArray, candidate: FloatArray) -> FloatArray:
    products = (reference.astype(np.float64) * candidate).sum(axis=1)
    lengths = np.linalg.norm(reference, axis=1) * np.linalg.norm(candidate, axis=1)
    cosines: FloatArray = products / np.maximum(lengths, np.finfo(np.float32).tiny)
    return cosines


def neighbour_overlap(reference: FloatArray, candidate: FloatArray) -> float:
    """Return the mean share of each row's nearest rows that the candidate keeps.

    Args:
        reference: (rows, width) unit vectors, more than NEIGHBOURS rows.
        candidate: the same rows, computed another way.
    """
    pairs = zip(_nearest(reference), _nearest(candidate), strict=True)
    return float(np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in pairs]))


def _nearest(vectors: FloatArray) -> list[list[int]]:
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    order: list[list[int]] = np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS].tolist()
    return order


def inexact(fp32: Likeness, padding: Likeness | None) -> str:
    """Return why an fp32 file is not exact, or an empty string."""
    if not fp32.finite:
        return "it returns NaN or infinity"
    if fp32.least_cosine < FP32_COSINE:
        return f"its least cosine to torch is {fp32.least_cosine:.6f}, under {FP32_COSINE}"
    if padding is not None and padding.least_cosine < PADDING_COSINE:
        return (
            f"the least cosine of a cut text to the padded one is {padding.least_cosine:.7f}, "
            f"under {PADDING_COSINE}"
        )
    return ""


def too_coarse(int8: Likeness, overlap: float) -> str:
    """Return why an int8 file does not pass the gate, or an empty string."""
    if not int8.finite:
        return "int8 returns NaN or infinity"
    if int8.mean_cosine < INT8_COSINE:
        return f"int8's mean cosine to fp32 is {int8.mean_cosine:.4f}, under {INT8_COSINE}"
    if overlap < INT8_OVERLAP:
        return f"int8 keeps {overlap:.1%} of the {NEIGHBOURS} nearest, under {INT8_OVERLAP:.0%}"
    return ""


def too_rounded(fp16: Likeness) -> str:
    """Return why an fp16 file does not pass the gate, or an empty string."""
    if not fp16.finite:
        return "fp16 returns NaN or infinity"
    if fp16.mean_cosine < FP16_COSINE:
        return f"fp16's mean cosine to fp32 is {fp16.mean_cosine:.5f}, under {FP16_COSINE}"
    return ""
