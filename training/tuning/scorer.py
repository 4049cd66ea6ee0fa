"""A fusion strategy with what scores its embeddings against queries, and its training on pairs."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ensembles.arrays import FloatArray
from training.evaluation.bootstrap import ndcg_at
from training.tuning.examples import Examples, Int64Array, is_pair, ranks
from training.tuning.fit import START_TEMPERATURE, info_nce
from training.tuning.strategies import LateFusion, modality_strength, weighted_mean

SCORED_AT_ONCE = 512  # segments


class Scorer(nn.Module):
    """A fusion strategy with what scores its embeddings against queries.

    Args:
        strategy: takes a segment's tokens, or is `LateFusion`.
    """

    def __init__(self, strategy: nn.Module) -> None:
        super().__init__()
        self.strategy = strategy
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / START_TEMPERATURE)))

    def forward(self, words: Tensor, sentences: Tensor, tokens: list[Tensor]) -> Tensor:
        """Score queries against segments.

        Args:
            words: (queries, vision) CLIP embeddings.
            sentences: (queries, sentence) sentence embeddings; only late fusion reads them.
            tokens: the six arrays of `SegmentTokens`.

        Returns:
            (queries, segments), cosines or, of late fusion, what takes their place.
        """
        if isinstance(self.strategy, LateFusion):
            return self._late(self.strategy, words, sentences, tokens)
        fused: Tensor = self.strategy(*tokens)
        return words @ fused.T

    @staticmethod
    def _late(fuse: LateFusion, words: Tensor, sentences: Tensor, tokens: list[Tensor]) -> Tensor:
        means = [
            functional.normalize(weighted_mean(rows, weights), dim=-1)
            for rows, weights in zip(tokens[::2], tokens[1::2], strict=True)
        ]
        hears = means[1].shape[-1] == words.shape[-1]
        strength = modality_strength(*tokens[1::2])
        if not hears:  # words and sounds have no space in common
            strength = strength * torch.tensor([1.0, 0.0, 1.0])
        sound = words @ means[1].T if hears else words.new_zeros(len(words), len(means[1]))
        scores = torch.stack([words @ means[0].T, sound, sentences @ means[2].T], dim=-1)
        late: Tensor = fuse(scores, strength)
        return late


class FusionTask:
    """Fusion to be trained on some pairs and stopped by others; see `training.tuning.fit.Task`.

    Args:
        scorer: is trained.
        examples: tokens and queries.
        train: (pairs, 2).
        validation: (pairs, 2).
        known: (pairs, 2) what else is right, and so no negative; None: the examples' pairs.
    """

    def __init__(
        self,
        scorer: Scorer,
        examples: Examples,
        train: Int64Array,
        validation: Int64Array,
        known: Int64Array | None = None,
    ) -> None:
        self.module: nn.Module = scorer
        self.pairs = train
        self._scorer = scorer
        self._examples = examples
        self._validation = validation
        self._known = examples.pairs if known is None else known

    def loss(self, pairs: Int64Array) -> Tensor:
        """Return the loss of a batch of pairs (n, 2)."""
        queries, segments = pairs.T
        scores = self._scorer(
            torch.from_numpy(self._examples.words[queries]),
            torch.from_numpy(self._examples.sentences[queries]),
            tensors(self._examples, segments),
        )
        also_right = is_pair(self._known, queries, segments)
        return info_nce(scores, self._scorer.log_scale, also_right)

    def ndcg(self) -> float:
        """Return the mean nDCG@10 of the validation pairs."""
        found = pair_ranks(self._scorer, self._examples, self._validation, known=self._known)
        return float(ndcg_at(found).mean())


@torch.no_grad()
def pair_ranks(
    scorer: Scorer,
    examples: Examples,
    pairs: Int64Array,
    among: Int64Array | None = None,
    known: Int64Array | None = None,
) -> list[int]:
    """Return the rank of each pair's segment.

    Args:
        scorer: scores queries against segments.
        examples: all of both.
        pairs: (pairs, 2) that are judged.
        among: ascending, which segments are told apart; None: all of the examples.
        known: (pairs, 2) what else is right, and so passed over; None: the examples' pairs.
    """
    scorer.eval()
    segments = np.arange(len(examples.segment_ids)) if among is None else among
    words, sentences = torch.from_numpy(examples.words), torch.from_numpy(examples.sentences)
    parts = np.array_split(segments, math.ceil(len(segments) / SCORED_AT_ONCE))
    found = [scorer(words, sentences, tensors(examples, part)) for part in parts]
    scores: FloatArray = torch.cat(found, dim=1).numpy()
    return ranks(scores, pairs, segments, examples.pairs if known is None else known)


def tensors(examples: Examples, segments: Int64Array) -> list[Tensor]:
    """Return the tokens of some segments as `Fusion.forward` takes them."""
    return [torch.from_numpy(array) for array in examples.tokens.padded(segments)]
