from dataclasses import replace

import msgspec
import numpy as np
import pytest

from gateway.errors import ConfigurationError
from ingest.from_tokens import check_texts, with_texts
from ingest.plan import modality_weights
from tests.test_kept_places import SEGMENTS, tokens

SPOKEN = [
    msgspec.structs.replace(one, text=text)
    for one, text in zip(SEGMENTS, ("", "words"), strict=True)
]


def test_tokens_of_another_transcript_are_refused() -> None:
    kept = tokens([0.0, 6.0], [0, 1])
    check_texts(kept, SPOKEN)
    with pytest.raises(ConfigurationError, match="words for 1 segments, the catalogue for 0"):
        check_texts(kept, SEGMENTS)
    moved = replace(kept, segment_starts_s=np.array([0.0, 4.0]))
    with pytest.raises(ConfigurationError, match="of 2 segments"):
        check_texts(moved, SPOKEN)


@pytest.mark.parametrize(("category", "factor"), [(None, 1.0), ("tutorial", 2.0)])
def test_new_texts_weigh_what_the_frames_of_their_segments_do(
    category: str | None, factor: float
) -> None:
    kept = tokens([0.0, 6.0], [0, 1])
    text = np.full((2, 4), 0.5, np.float32)
    changed = with_texts(kept, [0, 1], text, modality_weights(category))
    assert changed.text_segments.tolist() == [0, 1]
    assert changed.text_weights.tolist() == [0.5 * factor, 2.0 * factor]
    assert np.array_equal(changed.text, text)
    assert np.array_equal(changed.frames, kept.frames)


def test_where_nothing_is_seen_texts_weigh_what_the_sounds_do() -> None:
    kept = tokens([], [])
    changed = with_texts(kept, [0, 1], np.ones((2, 4), np.float32), modality_weights("music"))
    assert changed.text_weights.tolist() == [0.125, 1.0]  # a quarter over sound's weight of two
