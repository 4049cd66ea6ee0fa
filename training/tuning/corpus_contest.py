"""The fusion strategies against each other on the made-up corpus, over the trained encoders.

All are trained on captions of every kind and judged by the mixed ones of held-out combinations:
what is seen, heard and said together is what fusion is for.
"""

from collections.abc import Iterator, Sequence
from random import Random

import numpy as np
import torch

from ensembles.arrays import FloatArray
from ensembles.build import MINI
from export.modules import ClipText, ClipVision, Sound
from training.bank import make_bank
from training.batches import token_ids, token_mask
from training.corpus import Described, evaluation_set, training_batch
from training.parts import Workers
from training.trained import load_clip, load_sound
from training.tuning.contest import Contest, Progress, contest
from training.tuning.examples import Examples, Int64Array, Split, TokenTable, unpadded
from training.tuning.fit import FitSettings
from training.world.captions import KINDS, Caption, describe
from training.world.scenes import Segment, attributes, encode, fit_matrix
from training.world.spoken import mini_sentences

FRAMES, WINDOWS = 4, 2  # of each segment, as `training.recall` has them
CAPTIONS_A_SEGMENT = 4  # to train on
VALIDATED = 0.1  # of what is trained on: to stop by
JUDGED = "mixed"
TEXTS_AT_ONCE = 128
EVALUATION_SEED = 1

Asked = tuple[Caption, int]  # and the segment that it describes


def contest_on_corpus(
    train_segments: int, held_out_segments: int, wanted: FitSettings, progress: Progress
) -> Contest:
    """Draw and embed the corpus, then train and compare every strategy on it.

    Args:
        train_segments: to train on, some of them to stop by; none has a held-out combination.
        held_out_segments: of the evaluation set, to judge by.
        wanted: how to train; its seed also draws what is trained on.
        progress: told of each epoch.

    Raises:
        ConfigurationError: the trained weights are missing.
    """
    seen = training_batch(wanted.seed, 0, train_segments)
    held_out = evaluation_set(EVALUATION_SEED, held_out_segments)
    asked = [*_training_captions(seen, wanted.seed), *_judged_captions(held_out, train_segments)]
    segments = [*seen, *(one.segment for one in held_out)]
    examples = _embedded(segments, asked, wanted.seed)
    parts = _parts(examples.pairs, train_segments)
    judged_among = np.arange(train_segments, len(segments))
    return contest(examples, parts, MINI, wanted, progress, judged_among, _known(asked, segments))


def _training_captions(segments: Sequence[Segment], seed: int) -> Iterator[Asked]:
    rng = Random(f"contest {seed}")  # noqa: S311 (reproducible on purpose)
    for at, segment in enumerate(segments):
        for kind in rng.sample(KINDS, CAPTIONS_A_SEGMENT):
            caption = describe(segment, kind, rng)
            if caption is not None:
                yield caption, at


def _judged_captions(described: Sequence[Described], first: int) -> Iterator[Asked]:
    for at, one in enumerate(described, first):
        yield from ((caption, at) for caption in one.captions if caption.kind == JUDGED)


def _embedded(segments: list[Segment], asked: Sequence[Asked], seed: int) -> Examples:
    """Embed segments and captions with the trained encoders."""
    sentences = mini_sentences()
    clip = load_clip(MINI)
    encoders = (ClipVision(clip).eval(), Sound(load_sound(MINI)).eval())
    workers = Workers("cpu", exact=True)
    size_px = MINI.image_size_px
    bank = make_bank(encoders, sentences, segments, seed, FRAMES, WINDOWS, size_px, workers)
    heard = bank.heard[:, None].float().expand(-1, WINDOWS).numpy()
    texts = [caption.text for caption, _ in asked]
    return Examples(
        segment_ids=tuple(str(at) for at in range(len(segments))),
        tokens=TokenTable(
            unpadded(bank.frames.numpy(), np.ones(bank.frames.shape[:2], np.float32)),
            unpadded(bank.audio.numpy(), heard),
            unpadded(bank.text.numpy(), bank.said[:, None].float().numpy()),
        ),
        queries=tuple(texts),
        words=_embed_texts(ClipText(clip).eval(), texts),
        sentences=sentences(texts).numpy(),
        pairs=np.array([(number, at) for number, (_, at) in enumerate(asked)], np.int64),
    )


@torch.no_grad()
def _embed_texts(tower: ClipText, texts: Sequence[str]) -> FloatArray:
    rows = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        ids = token_ids(texts[start : start + TEXTS_AT_ONCE])
        rows.append(tower(ids, token_mask(ids)))
    embeddings: FloatArray = torch.cat(rows).numpy()
    return embeddings


def _parts(pairs: Int64Array, train_segments: int) -> Split:
    stop_by = round((1 - VALIDATED) * train_segments)
    segments = pairs[:, 1]
    return Split(
        train=pairs[segments < stop_by],
        validation=pairs[(segments >= stop_by) & (segments < train_segments)],
        held_out=pairs[segments >= train_segments],
    )


def _known(asked: Sequence[Asked], segments: Sequence[Segment]) -> Int64Array:
    """Return every caption with every segment that it fits: none of them is a negative."""
    described = np.stack([encode(caption.attributes) for caption, _ in asked])
    codes = np.stack([encode(attributes(segment)) for segment in segments])
    return np.argwhere(fit_matrix(described, codes)).astype(np.int64)
