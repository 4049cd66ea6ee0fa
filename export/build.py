"""A profile to a bundle: checkpoints → ONNX → one new version number across all models."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ensembles.bundle import Band, Bundle, list_bundles
from ensembles.contracts import models
from export.checkpoints import content_hash, find_checkpoint
from export.profiles import Profile, find_profile
from export.repository import assemble_repository, store_bundle
from gateway.errors import ConfigurationError

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all
EXPORT_SOURCES = ("modules.py", "onnx.py", "encoders.py", "calibration.py", "profiles.py")


def ensure_exported(profile: str, models_dir: Path, progress: Progress) -> Bundle:
    """Return a profile's newest bundle, exporting it first where there is none.

    The repository is brought up to date with the installed code and this machine's cores.
    """
    bundles = list_bundles(models_dir, profile)
    bundle = bundles[-1] if bundles else export_bundle(profile, models_dir, progress)
    assemble_repository(models_dir, profile)
    return bundle


def export_bundle(
    profile_name: str,
    models_dir: Path,
    progress: Progress,
    *,
    folders: Mapping[str, Path] | None = None,
    force: bool = False,
) -> Bundle:
    """Export a profile as a new bundle; returns the newest one where nothing has changed.

    Args:
        profile_name: a row of `export/profiles.py`.
        models_dir: where bundles go.
        progress: told of each step.
        folders: local folders of checkpoints, by model.
        force: export although nothing has changed.

    Raises:
        InvalidRequest: no such profile.
        ConfigurationError: a checkpoint is missing, or the export packages are.
    """
    profile = find_profile(profile_name)
    folder = find_checkpoint("sentence", profile.sentence, (folders or {}).get("sentence"))
    hashes = {"sentence": content_hash(folder, profile.sentence.files)}
    key = export_key(profile, hashes)
    existing = list_bundles(models_dir, profile_name)
    if existing and existing[-1].key == key and not force:
        return existing[-1]
    version = existing[-1].version + 1 if existing else 1
    with _staging(models_dir / profile_name) as staging:
        bands = _write_models(profile, folder, staging, progress)
        bundle = _describe(profile, version, bands, hashes, key)
        store_bundle(models_dir, bundle, staging)
    assemble_repository(models_dir, profile_name)
    return bundle


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """Give a folder to fill, and remove what is left of it and of killed exports."""
    root.mkdir(parents=True, exist_ok=True)
    for left_over in root.glob(".export-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".export-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_models(
    profile: Profile, folder: Path, staging: Path, progress: Progress
) -> dict[str, Band]:
    """Import what needs torch only when something is exported."""
    try:
        from export import encoders
    except ImportError as error:
        raise ConfigurationError(
            f"exporting needs the package {error.name}: pip install 'pixserve[export]'"
        ) from error
    return encoders.write_models(profile, folder, staging, progress)


def _describe(
    profile: Profile, version: int, bands: dict[str, Band], hashes: Mapping[str, str], key: str
) -> Bundle:
    speech = {"speech": profile.speech_band, "keyword": profile.keyword_band}
    return Bundle(
        profile=profile.name,
        version=version,
        dims=profile.dims,
        capabilities=profile.capabilities,
        calibration=bands | speech,
        query_prefix=profile.query_prefix,
        passage_prefix=profile.passage_prefix,
        precisions={
            name: "fp32"
            for name, model in models(profile.dims).items()
            if model.runtime == "encoder"
        },
        sources=_sources(profile, hashes),
        key=key,
    )


def export_key(profile: Profile, hashes: Mapping[str, str]) -> str:
    """Return the SHA-256 over the profile's row, the weights and the code that exports them."""
    digest = hashlib.sha256(msgspec.json.encode([profile, dict(hashes)], order="sorted"))
    here = Path(__file__).parent
    code = [here / name for name in EXPORT_SOURCES]
    for path in (*code, here.parent / "training" / "models.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(profile: Profile, hashes: Mapping[str, str]) -> dict[str, str]:
    return {
        "sentence": f"{profile.sentence.hub} sha256:{hashes['sentence']}",
        "clip": f"untrained, seed {profile.clip.seed}",
        "wav2vec2": f"untrained, seed {profile.audio.seed}",
        "fusion": f"untrained, seed {profile.fusion.seed}",
    }
