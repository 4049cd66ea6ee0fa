"""Writes the configs of a model repository: `python -m ensembles.build` renews the checked-in ones.

The checked-in `model_repository/` holds the Python models and, for review, every config compiled
for the profile `mini`, bundle 1. What Triton serves is made from it by `export/repository.py`.
"""

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from ensembles.contracts import Dimensions, models
from ensembles.graphs import ensembles
from ensembles.pbtxt import TARGETS, ensemble_config, model_config, thread_budget

SOURCE = Path(__file__).resolve().parent.parent / "model_repository"
CHECKED_IN_CORES = 2
MINI = Dimensions(
    vision=128,
    sentence=384,
    audio=128,
    fused=128,
    image_size_px=96,
    clip_tokens=64,
    sentence_tokens=256,
)


def configs(dims: Dimensions, versions: Sequence[int], cores: int) -> dict[str, str]:
    """Return the text of every config of a repository, by its path inside.

    Args:
        dims: the sizes of all its bundles.
        versions: the bundles, oldest first.
        cores: of the machine, over which the models' threads are budgeted.
    """
    contracts = models(dims)
    graphs = ensembles(contracts, dims).values()
    threads = thread_budget(cores)
    texts = {}
    for target in TARGETS:
        for model in contracts.values():
            path = f"{model.name}/configs/{target}.pbtxt"
            texts[path] = model_config(model, target, versions, threads, dims)
        for graph, (name, version) in product(graphs, served_names(versions)):
            full_name = graph.contract.name + name
            texts[f"{full_name}/configs/{target}.pbtxt"] = ensemble_config(
                graph, version, full_name
            )
    return texts


def served_names(versions: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """Return the endings of the ensembles' names, and the bundle behind each."""
    return (("", versions[-1]), *((bundle_suffix(version), version) for version in versions))


def bundle_suffix(version: int) -> str:
    """Return what follows an ensemble's name where one bundle is meant: `embed_query_v1`."""
    return f"_v{version}"


def write_configs(root: Path, texts: dict[str, str]) -> None:
    """Write configs below a repository's root, making folders as needed."""
    for relative, text in texts.items():
        path = root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def machine_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def checked_in_configs() -> dict[str, str]:
    """Return the configs that stand in the source tree, under the ensembles' plain names."""
    texts = configs(MINI, versions=(1,), cores=CHECKED_IN_CORES)
    return {path: text for path, text in texts.items() if bundle_suffix(1) not in path}


if __name__ == "__main__":
    write_configs(SOURCE, checked_in_configs())
