"""Bundles to the model repository that Triton loads.

A bundle is a folder that is never changed, put in place by one rename. The repository is derived
from the bundles and the installed code: it is built beside the old one and switched by replacing a
symbolic link, so that a killed export or a killed start leaves nothing half-written to be loaded.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ensembles.build import SOURCE, configs, machine_cores, served_names, write_configs
from ensembles.bundle import Bundle, bundle_folder, repository_path, servable_bundles
from ensembles.contracts import Model, models
from ensembles.graphs import ensembles
from gateway.errors import ConfigurationError

DIGEST_CHARS = 16


def store_bundle(models_dir: Path, bundle: Bundle, staging: Path) -> None:
    """Put a bundle's files in place at once.

    Args:
        models_dir: of the data folder.
        bundle: its description.
        staging: a folder on the same disk with one folder of files a model; it is moved.
    """
    (staging / "bundle.json").write_bytes(msgspec.json.format(msgspec.json.encode(bundle)))
    folder = bundle_folder(models_dir, bundle.profile, bundle.version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(staging, folder)


def assemble_repository(
    models_dir: Path, profile: str, *, allow_random_weights: bool = False
) -> Path:
    """Make the repository of a profile's bundles, unless it is there already.

    Args:
        models_dir: of the data folder.
        profile: whose bundles.
        allow_random_weights: take bundles without training too, for benchmarks.

    Returns:
        The folder for tritonserver's `--model-repository`.

    Raises:
        ConfigurationError: nothing was exported that may be served, or the bundles' sizes differ.
    """
    bundles = servable_bundles(models_dir, profile, allow_random_weights)
    if not bundles:
        raise ConfigurationError(
            f"the profile {profile} is not exported: pixserve export --profile {profile}"
        )
    _check_sizes(bundles)
    versions = [bundle.version for bundle in bundles]
    texts = configs(bundles[-1].dims, versions, machine_cores())
    link = repository_path(models_dir, profile)
    target = link.parent / "repositories" / _digest(bundles, texts)
    if not target.is_dir():
        _build(models_dir, bundles, texts, target)
    _switch(link, target)
    return link


def _check_sizes(bundles: Sequence[Bundle]) -> None:
    newest = bundles[-1]
    for bundle in bundles:
        if bundle.dims != newest.dims:
            raise ConfigurationError(
                f"the bundles {bundle.id} and {newest.id} have different sizes ({bundle.dims} and "
                f"{newest.dims}); one Triton serves one set of sizes: drop one of them"
            )


def _digest(bundles: Sequence[Bundle], texts: dict[str, str]) -> str:
    digest = hashlib.sha256(msgspec.json.encode([list(bundles), texts], order="sorted"))
    for code in sorted(SOURCE.glob("*/1/model.py")):
        digest.update(code.read_bytes())
    return digest.hexdigest()[:DIGEST_CHARS]


def _build(
    models_dir: Path, bundles: Sequence[Bundle], texts: dict[str, str], target: Path
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=target.parent))
    try:
        write_configs(staging, texts)
        dims = bundles[-1].dims
        contracts = models(dims)
        for bundle in bundles:
            files = bundle_folder(models_dir, bundle.profile, bundle.version)
            for model in contracts.values():
                _place_model(model, files, staging / model.name / str(bundle.version))
        versions = [bundle.version for bundle in bundles]
        for name in ensembles(contracts, dims):
            for suffix, version in served_names(versions):
                (staging / f"{name}{suffix}" / str(version)).mkdir()
        os.replace(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _place_model(model: Model, bundle_files: Path, destination: Path) -> None:
    """Fill one version's folder: the installed code, and the bundle's files by hard link."""
    destination.mkdir(parents=True)
    if model.runtime == "python":
        shutil.copy(SOURCE / model.name / "1" / "model.py", destination)
    for file in sorted((bundle_files / model.name).glob("*")):
        os.link(file, destination / file.name)


def _switch(link: Path, target: Path) -> None:
    """Point the link at the target in one step, then remove other repositories."""
    if link.is_symlink() and link.resolve() == target.resolve():
        return
    fresh = link.with_name(f".{link.name}-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.relative_to(link.parent), target_is_directory=True)
    os.replace(fresh, link)
    for other in target.parent.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
