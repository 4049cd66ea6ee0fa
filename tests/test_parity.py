"""The parity report: what counts as the same embedding, and what never passes."""

import msgspec
import numpy as np
import pytest

from export.parity import (
    FP32_COSINE,
    PADDING_COSINE,
    EncoderReport,
    Likeness,
    compare,
    inexact,
    neighbour_overlap,
    too_coarse,
)


def unit_rows(rows: int, width: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_equal_vectors_are_exact():
    vectors = unit_rows(20, 16)
    likeness = compare(vectors, vectors)
    assert likeness.least_cosine == pytest.approx(1)
    assert likeness.largest_difference == 0
    assert inexact(likeness, likeness) == ""
    assert neighbour_overlap(vectors, vectors) == 1


def test_one_wrong_row_among_many_fails_the_exactness_of_all():
    reference = unit_rows(200, 16)
    candidate = reference.copy()
    candidate[77] = unit_rows(1, 16, seed=9)[0]
    likeness = compare(reference, candidate)
    assert likeness.mean_cosine > 0.99
    assert "least cosine" in inexact(likeness, None)


def test_a_padded_text_must_be_nearer_to_the_cut_one_than_onnx_to_torch():
    reference = unit_rows(50, 16)
    likeness = compare(reference, reference + 0.01 * unit_rows(50, 16, seed=1))
    assert FP32_COSINE < likeness.least_cosine < PADDING_COSINE
    assert inexact(likeness, None) == ""
    assert "padded" in inexact(likeness, likeness)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_never_pass(number):
    reference = unit_rows(20, 16)
    broken = reference.copy()
    broken[3, 5] = number
    for likeness in (compare(reference, broken), compare(broken, broken)):
        assert "NaN" in inexact(likeness, None)
        assert "NaN" in too_coarse(likeness, overlap=1.0)
        assert msgspec.json.decode(msgspec.json.encode(likeness), type=Likeness) == likeness


def test_zero_vectors_are_no_likeness():
    reference = unit_rows(4, 8)
    assert compare(reference, np.zeros_like(reference)).mean_cosine == 0


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 8\) and \(4, 9\)"):
        compare(unit_rows(4, 8), unit_rows(4, 9))


def test_the_int8_gate_needs_both_cosine_and_neighbours():
    near = Likeness(rows=9, finite=True, least_cosine=0.97, mean_cosine=0.995, largest_difference=0)
    far = msgspec.structs.replace(near, mean_cosine=0.98)
    assert too_coarse(near, overlap=0.96) == ""
    assert "94.0%" in too_coarse(near, overlap=0.94)
    assert "0.9800" in too_coarse(far, overlap=0.96)


def test_neighbours_that_change_are_counted():
    reference = unit_rows(60, 32)
    shuffled = neighbour_overlap(reference, unit_rows(60, 32, seed=1))
    slightly = neighbour_overlap(reference, reference + 0.01 * unit_rows(60, 32, seed=1))
    assert shuffled < 0.4 < 0.9 < slightly < 1.0001


def test_a_report_is_read_back_as_it_was_written():
    exact = compare(unit_rows(3, 4), unit_rows(3, 4))
    report = EncoderReport(model="sentence", precision="fp32", megabytes=1.5, fp32=exact)
    assert msgspec.json.decode(msgspec.json.encode(report), type=EncoderReport) == report
