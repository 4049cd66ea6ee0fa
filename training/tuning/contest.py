"""Fusion strategies, or two bundles' fusions, against each other on the same held-out pairs."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from ensembles.bundle import Bundle
from ensembles.contracts import Dimensions
from gateway.catalogue.catalogue import Catalogue
from gateway.settings import Settings
from training.evaluation.bootstrap import Comparison, Measures, compare, measure, ndcg_at
from training.tuning import finetune, lora
from training.tuning.candidates import find_bundle
from training.tuning.examples import Examples, Int64Array, Split, part
from training.tuning.fit import Epoch, FitSettings, fit
from training.tuning.pairs import load_examples, read_pairs
from training.tuning.runs import PAIRS_FILE, Run
from training.tuning.scorer import FusionTask, Scorer, pair_ranks
from training.tuning.strategies import STRATEGIES

FAVOURITE = "cross-attention"
UNTRAINED = "visual-only"

Progress = Callable[[Epoch, FitSettings], None]


class Entry(msgspec.Struct, frozen=True):
    """What one strategy came to."""

    strategy: str
    weights: int  # numbers that were trained
    measures: Measures
    favourite_over: Comparison | None  # of nDCG@10; None: it is the favourite


class Contest(msgspec.Struct, frozen=True):
    """All strategies on the same pairs."""

    favourite: str
    pairs: int  # held out
    entries: tuple[Entry, ...]


class BundleContest(msgspec.Struct, frozen=True):
    """Two bundles on the same pairs."""

    pairs: int
    measures: dict[str, Measures]
    comparison: Comparison  # of nDCG@10: the first over the second


def contest_on_pairs(
    pairs_file: Path,
    bundle: Bundle,
    catalogue: Catalogue,
    settings: Settings,
    wanted: FitSettings,
    progress: Progress,
) -> Contest:
    """Train each strategy on a user's pairs; arguments and errors as of `train_fusion`."""
    examples = load_examples(read_pairs(pairs_file), bundle, catalogue, settings)
    return contest(examples, part(examples, wanted.seed), bundle.dims, wanted, progress)


def contest(
    examples: Examples,
    parts: Split,
    dims: Dimensions,
    wanted: FitSettings,
    progress: Progress,
    among: Int64Array | None = None,
    known: Int64Array | None = None,
) -> Contest:
    """Train each strategy from nothing on the same tokens and compare them on held-out pairs.

    Args:
        examples: tokens and queries.
        parts: the pairs to train on, to stop by and to judge by.
        dims: sizes of the tokens.
        wanted: how to train.
        progress: told of each epoch.
        among: the segments that are told apart at the end; None: all.
        known: (pairs, 2) what else is right; None: the examples' pairs.
    """
    found: dict[str, list[int]] = {}
    weights: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, build in STRATEGIES.items():
            scorer = Scorer(build(dims, wanted.seed))
            weights[name] = sum(weight.numel() for weight in scorer.strategy.parameters())
            if name != UNTRAINED:
                task = FusionTask(scorer, examples, parts.train, parts.validation, known)
                fit(task, wanted, Path(folder) / f"{name}.pt", progress)
            found[name] = pair_ranks(scorer, examples, parts.held_out, among, known)
    entries = tuple(_entry(name, weights[name], found) for name in STRATEGIES)
    return Contest(FAVOURITE, len(parts.held_out), entries)


def compare_bundles(
    run: Run, folder: Path, ids: tuple[str, str], settings: Settings, catalogue: Catalogue
) -> BundleContest:
    """Compare what two bundles serve on the pairs that a run held out.

    Args:
        run: whose pairs.
        folder: of the run.
        ids: the bundles; the first one is the one that may be better.
        settings: where videos and models are.
        catalogue: has the segments.

    Raises:
        NotFound: a bundle, or a segment of the pairs, is gone.
        ConfigurationError: the tokens are not those of the current bundle.
    """
    bundles = [find_bundle(settings.models_dir, one) for one in ids]
    listed = folder / PAIRS_FILE
    if run.kind == "clip":
        source, seed = Path(run.source), run.settings.seed
        found = [
            lora.bundle_ranks(bundle, settings.models_dir, source, listed, seed)
            for bundle in bundles
        ]
    else:
        maker = find_bundle(settings.models_dir, catalogue.versions.current() or "")
        examples = load_examples(read_pairs(listed), maker, catalogue, settings)
        held_out = part(examples, run.settings.seed).held_out
        found = [
            finetune.bundle_ranks(bundle, settings.models_dir, examples, held_out)
            for bundle in bundles
        ]
    first, second = found
    return BundleContest(
        len(first),
        {one: measure(ranks) for one, ranks in zip(ids, found, strict=True)},
        compare(ndcg_at(first), ndcg_at(second)),
    )


def _entry(name: str, weights: int, found: dict[str, list[int]]) -> Entry:
    over = None
    if name != FAVOURITE:
        over = compare(ndcg_at(found[FAVOURITE]), ndcg_at(found[name]))
    return Entry(name, weights, measure(found[name]), over)
