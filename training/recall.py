"""What a trained family finds on the held-out set, straight from its encoders."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from export.modules import ClipText, ClipVision, Sound
from training.bank import Bank, SentenceEncoder, make_bank
from training.batches import token_ids, token_mask
from training.corpus import Described, evaluation_set
from training.evaluation.bootstrap import ndcg_at, recall_at, reciprocal_ranks
from training.fusing import mean_frames
from training.models import Fusion
from training.parts import Workers
from training.world.captions import KINDS, Kind

EVALUATION_SEED = 1
FRAMES, WINDOWS = 4, 2  # of each segment
BATCH = 128
Figures = dict[str, dict[str, float]]


def held_out_figures(
    text: ClipText,
    vision: ClipVision,
    sound: Sound,
    fused: Fusion,
    sentences: SentenceEncoder,
    size_px: int,
    segments: int,
) -> Figures:
    """Return recall, MRR and nDCG by leg and kind of query, e.g. `visual object`.

    Args:
        text: the trained text tower.
        vision: the trained vision tower.
        sound: the trained sound encoder.
        fused: the trained fusion network.
        sentences: encoder of transcripts.
        size_px: height and width of the pixels.
        segments: how many the held-out set has.
    """
    described = evaluation_set(EVALUATION_SEED, segments)
    workers = Workers("cpu", exact=True)
    shown = [row.segment for row in described]
    bank = make_bank(
        (vision, sound), sentences, shown, EVALUATION_SEED, FRAMES, WINDOWS, size_px, workers
    )
    legs = _legs(bank, fused)
    figures: Figures = {}
    for kind in KINDS:
        queries, found = _queries(described, kind)
        if queries:
            words = _embed_texts(text, queries)
            for leg in _compared(kind):
                figures[f"{leg} {kind}"] = metrics(ranks(words, legs[leg], found))
    return figures


def ranks(queries: Tensor, things: Tensor, found: Sequence[int]) -> list[int]:
    """Return the place of what each query is to find, from 1; of equals the last.

    Args:
        queries: (n, width) unit vectors.
        things: (m, width) unit vectors, or zeros for what cannot be found.
        found: n numbers of things.
    """
    scores = queries @ things.T
    scores[:, things.abs().sum(dim=1) == 0] = -1.0
    right = scores.gather(1, torch.tensor(found)[:, None])
    places: list[int] = (scores >= right).sum(dim=1).tolist()
    return places


def metrics(places: Sequence[int]) -> dict[str, float]:
    """Return recall@1, @5, @10, MRR and nDCG@10 of places from 1; one thing is right each time."""
    figures = {
        **{f"recall@{k}": recall_at(places, k) for k in (1, 5, 10)},
        "mrr": reciprocal_ranks(places),
        "ndcg@10": ndcg_at(places),
    }
    means = {name: round(float(values.mean()), 4) for name, values in figures.items()}
    return means | {"queries": len(places)}


def _compared(kind: Kind) -> tuple[str, ...]:
    own = {"sound": ("sound",), "speech": ()}.get(kind, ("visual",))
    return (*own, "fused")


def _legs(bank: Bank, fused: Fusion) -> dict[str, Tensor]:
    ones = torch.ones(bank.frames.shape[:2])
    heard = bank.heard[:, None].float().expand(-1, bank.audio.shape[1])
    with torch.no_grad():
        joined = fused(bank.frames, ones, bank.audio, heard, bank.text, bank.said[:, None].float())
    sounds = functional.normalize(bank.audio.sum(dim=1), dim=-1)
    return {"visual": mean_frames(bank.frames, ones), "sound": sounds, "fused": joined}


def _queries(described: Sequence[Described], kind: Kind) -> tuple[list[str], list[int]]:
    pairs = [
        (caption.text, number)
        for number, row in enumerate(described)
        for caption in row.captions
        if caption.kind == kind
    ]
    return [text for text, _ in pairs], [number for _, number in pairs]


def _embed_texts(text: ClipText, queries: Sequence[str]) -> Tensor:
    rows = []
    for start in range(0, len(queries), BATCH):
        ids = token_ids(queries[start : start + BATCH])
        with torch.no_grad():
            rows.append(text(ids, token_mask(ids)))
    return torch.cat(rows)
