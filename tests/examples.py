"""Made-up examples for tests of fine-tuning: what is asked for is in the sound, not the picture."""

import numpy as np

from ensembles.contracts import Dimensions
from training.tuning.examples import Examples, Int64Array, TokenTable, token_rows

WIDTH = 16
DIMS = Dimensions(
    vision=WIDTH,
    sentence=24,
    audio=WIDTH,
    fused=WIDTH,
    image_size_px=32,
    clip_tokens=77,
    sentence_tokens=128,
)


def heard_examples(count: int = 120, *, seed: int = 3, turned: bool = True) -> Examples:
    """One query a segment; it is near the segment's sound, turned by a fixed rotation, and a
    little near its frames. So the frames alone find some, and who listens finds more.
    """
    rng = np.random.default_rng(seed)
    queries = _unit(rng.normal(size=(count, WIDTH)))
    rotation = np.linalg.qr(np.random.default_rng(7).normal(size=(WIDTH, WIDTH)))[0]
    heard = queries @ rotation if turned else queries
    frame_owners = np.repeat(np.arange(count), 3)
    frames = _unit(0.35 * queries[frame_owners] + _noise(rng, 3 * count))
    audio = _unit(heard + 0.1 * _noise(rng, count))
    texts = rng.normal(size=(count, DIMS.sentence))
    everything = np.arange(count)
    return Examples(
        segment_ids=tuple(f"video-{at:09d}" for at in range(count)),
        tokens=TokenTable(
            frames=token_rows(frames, np.ones(3 * count, np.float32), frame_owners, count),
            audio=token_rows(audio, np.ones(count, np.float32), everything, count),
            text=token_rows(_unit(texts), np.ones(count, np.float32), everything, count),
        ),
        queries=tuple(f"query {at}" for at in range(count)),
        words=queries,
        sentences=_unit(rng.normal(size=(count, DIMS.sentence))),
        pairs=np.stack([everything, everything], axis=1),
    )


def halves(examples: Examples) -> tuple[Int64Array, Int64Array]:
    """Every other pair to train on, the others to judge by."""
    return examples.pairs[::2], examples.pairs[1::2]


def _noise(rng: np.random.Generator, count: int) -> np.ndarray:
    return _unit(rng.normal(size=(count, WIDTH)))


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
