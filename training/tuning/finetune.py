"""Fusion trained on a user's pairs, over the frozen encoders of the bundle that is current."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from ensembles.arrays import FloatArray
from ensembles.bundle import Band, Bundle, bundle_folder
from ensembles.contracts import MAX_CHUNK_SEGMENTS, models
from export.calibration import equivalence_band
from export.precision import run_encoder
from export.profiles import find_profile
from export.weights import build_fusion
from gateway.catalogue.catalogue import Catalogue
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from training.evaluation.bootstrap import compare, measure, ndcg_at
from training.tuning.examples import Examples, Int64Array, TokenTable, part, ranks
from training.tuning.fit import FitSettings, Progress, fit
from training.tuning.pairs import load_examples, read_pairs, write_lines
from training.tuning.runs import PAIRS_FILE, Run, checkpoint_path, load_weights, run_key, write_run
from training.tuning.scorer import FusionTask, Scorer, pair_ranks, tensors
from training.tuning.strategies import VisualOnly

WEIGHTS_FILE = "fusion.safetensors"  # in a bundle that was fine-tuned, beside the exported files
LEAST_COSINE = 0.999  # of the weights that training starts from with the file that is served


def train_fusion(
    pairs_file: Path,
    bundle: Bundle,
    catalogue: Catalogue,
    settings: Settings,
    folder: Path,
    wanted: FitSettings,
    progress: Progress,
) -> Run:
    """Train the fusion of a bundle on pairs, and compare it with what there was.

    Args:
        pairs_file: lines of query and segment.
        bundle: whose encoders made the tokens.
        catalogue: has the segments.
        settings: where videos and models are.
        folder: of the run; one that was interrupted goes on there.
        wanted: how to train.
        progress: told of each epoch.

    Raises:
        InvalidRequest: the pairs are empty, malformed, too few or of one class.
        NotFound: they name segments that the catalogue does not have.
        ConfigurationError: the tokens are of another bundle, or the loss is no number any more.
    """
    pairs = read_pairs(pairs_file)
    examples = load_examples(pairs, bundle, catalogue, settings)
    parts = part(examples, wanted.seed)
    key = run_key(pairs, bundle, wanted)
    scorer = Scorer(starting_fusion(bundle, settings.models_dir))
    before = pair_ranks(scorer, examples, parts.held_out)
    task = FusionTask(scorer, examples, parts.train, parts.validation)
    fitted = fit(task, wanted, checkpoint_path(folder, key), progress)
    after = pair_ranks(scorer, examples, parts.held_out)
    unfused = pair_ranks(Scorer(VisualOnly()), examples, parts.held_out)
    run = Run(
        kind="fusion",
        trained_from=bundle.id,
        key=key,
        source=str(pairs_file),
        pairs=len(pairs),
        held_out=len(parts.held_out),
        settings=wanted,
        fitted=fitted,
        measures={
            "visual only": measure(unfused),
            "current": measure(before),
            "trained": measure(after),
        },
        against_current=compare(ndcg_at(after), ndcg_at(before)),
        bands={"fused_by_words": words_band(scorer, examples, parts.validation)},
    )
    write_run(folder, run, scorer.strategy)
    write_lines(folder / PAIRS_FILE, pairs)
    return run


def starting_fusion(bundle: Bundle, models_dir: Path) -> nn.Module:
    """Return the fusion network of a bundle as a module to train on.

    Raises:
        ConfigurationError: the bundle's file says something else than these weights.
    """
    folder = bundle_folder(models_dir, bundle.profile, bundle.version)
    profile = find_profile(bundle.profile)
    own = {} if bundle.random_weights else profile.own_weights
    module: nn.Module = build_fusion(profile, own.get("fusion"))
    if (folder / WEIGHTS_FILE).is_file():
        load_weights(module, folder / WEIGHTS_FILE)
    _check_same(module, bundle, folder)
    return module


def bundle_ranks(
    bundle: Bundle, models_dir: Path, examples: Examples, pairs: Int64Array
) -> list[int]:
    """Return the ranks of pairs' segments by the fusion file that a bundle serves.

    Args:
        bundle: whose file.
        models_dir: where it is.
        examples: all that is known.
        pairs: (pairs, 2) that are judged.
    """
    folder = bundle_folder(models_dir, bundle.profile, bundle.version)
    fused = fuse_segments(folder / "fusion" / "model.onnx", bundle, examples.tokens)
    return ranks(examples.words @ fused.T, pairs, np.arange(len(fused)), examples.pairs)


def fuse_segments(model: Path, bundle: Bundle, tokens: TokenTable) -> FloatArray:
    """Return the fused embeddings of segments by an exported file: (segments, fused)."""
    names = [tensor.name for tensor in models(bundle.dims)["fusion"].inputs]
    everything = np.arange(len(tokens))
    feeds = [
        dict(zip(names, tokens.padded(everything[at : at + MAX_CHUNK_SEGMENTS]), strict=True))
        for at in range(0, len(everything), MAX_CHUNK_SEGMENTS)
    ]
    return run_encoder(model, feeds)


@torch.no_grad()
def words_band(scorer: Scorer, examples: Examples, pairs: Int64Array) -> Band:
    """Return the band of queries' cosines with fused embeddings, from their own pairs (n, 2)."""
    queries, segments = pairs.T
    fused = scorer.strategy(*tensors(examples, segments))
    return equivalence_band(examples.words[queries], fused.numpy())


def _check_same(module: nn.Module, bundle: Bundle, folder: Path) -> None:
    """Refuse to train on from other weights than those that are served."""
    from export.samples import token_feed

    feed = token_feed(models(bundle.dims)["fusion"].inputs, rows=4, tokens=5)
    with torch.no_grad():
        ours = module(*map(torch.from_numpy, feed.values())).numpy()
    theirs = run_encoder(folder / "fusion" / "model.onnx", [feed])
    cosine = float((ours * theirs).sum(axis=1).min())
    if not cosine >= LEAST_COSINE:
        raise ConfigurationError(
            f"{bundle.id} serves another fusion network than the installed code builds (least "
            f"cosine {cosine:.4f}): export it again with pixserve export --profile "
            f"{bundle.profile}"
        )
