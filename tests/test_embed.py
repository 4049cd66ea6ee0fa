"""A sound is embedded in the windows that ingest uses."""

import numpy as np
import pytest

from ensembles.contracts import AUDIO_WINDOW_SAMPLES
from gateway.search.embed import windows_of


@pytest.mark.parametrize(
    ("windows", "expected"), [(0.01, 1), (0.9, 1), (1, 1), (1.4, 1), (1.5, 2), (2, 2), (15, 15)]
)
def test_a_sound_has_a_window_for_each_two_seconds_and_a_half_is_enough(windows, expected):
    pcm = np.ones(int(windows * AUDIO_WINDOW_SAMPLES), np.float32)
    assert windows_of(pcm).shape == (expected, AUDIO_WINDOW_SAMPLES)


def test_no_sample_is_moved_and_the_end_is_silence():
    pcm = np.arange(1, 1.75 * AUDIO_WINDOW_SAMPLES, dtype=np.float32)
    flat = windows_of(pcm).ravel()
    assert (flat[: len(pcm)] == pcm).all()
    assert not flat[len(pcm) :].any()
