"""Tokens in chunk order become one padded row a segment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.gather import gather


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_each_token_lands_once_in_the_row_of_its_segment_in_order(segment_of):
    tokens = np.arange(1, len(segment_of) + 1, dtype=np.float32)[:, None]
    rows, weights = gather(
        tokens, np.array(segment_of, np.int32), np.ones(len(segment_of), np.float32), 5
    )
    for segment in range(5):
        expected = [i + 1 for i, s in enumerate(segment_of) if s == segment]
        assert rows[segment, : len(expected), 0].tolist() == expected
        assert weights[segment].tolist() == [1] * len(expected) + [0] * (
            rows.shape[1] - len(expected)
        )


def test_a_segment_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="0…1"):
        gather(np.ones((1, 2), np.float32), np.array([2], np.int32), np.ones(1, np.float32), 2)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="2 tokens, 1 segment indices and 1 weights"):
        gather(np.ones((2, 2), np.float32), np.zeros(1, np.int32), np.ones(1, np.float32), 1)
