"""A profile to a bundle: checkpoints → ONNX → one new version number across all models."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from ensembles.bundle import Bundle, bundle_folder, list_bundles, servable_bundles
from export.checkpoints import (
    NOWHERE,
    Places,
    Sources,
    checkpoint_files,
    content_hash,
    find_sources,
)
from export.parity import EncoderReport
from export.profile_rows import OWN_FILES, TOKENIZER, Precision, Profile
from export.profiles import find_profile
from export.repository import assemble_repository, store_bundle
from gateway.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:  # it imports torch
    from export.encoders import Written

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all
NOT_IN_THE_FILES = {
    "__init__.py",
    "build.py",
    "cli.py",
    "engines.py",
    "gpu_check.py",
    "gpu_device.py",
    "gpu_report.py",
    "gpu_serving.py",
    "gpu_steps.py",
    "repository.py",
    "tensorrt.py",
    "tensorrt_api.py",
}
REPORT_FILE = "parity.json"
ExportTarget = Literal["cpu", "gpu"]


class Order(msgspec.Struct, frozen=True):
    """How a profile is to be exported."""

    precision: Precision | None = None  # None: what the profile's row says, fp16 for a GPU
    target: ExportTarget = "cpu"
    random_weights: bool = False
    places: Places = NOWHERE
    force: bool = False  # although nothing has changed


DEFAULT = Order()


def ordered_precision(profile: Profile, order: Order) -> Precision:
    """Return the precision that an order means for a profile.

    Raises:
        InvalidRequest: int8 for a GPU: ONNX Runtime's dynamic int8 is no type of TensorRT's.
    """
    if order.target == "cpu":
        return order.precision or profile.precision
    if order.precision == "int8":
        raise InvalidRequest("--target gpu takes --precision fp16 or fp32; int8 is for CPUs")
    return "fp32" if order.precision == "fp32" else "fp16"


def ensure_exported(
    profile: str, models_dir: Path, progress: Progress, *, allow_random_weights: bool = False
) -> Bundle:
    """Return a profile's newest bundle that may be served, exporting it where there is none.

    The repository is brought up to date with the installed code and this machine's cores.

    Raises:
        ConfigurationError: all bundles have random weights and that is not allowed, or the export
            needs what is not there.
    """
    bundles = servable_bundles(models_dir, profile, allow_random_weights)
    bundle = bundles[-1] if bundles else export_bundle(profile, models_dir, progress)
    assemble_repository(models_dir, profile, allow_random_weights=allow_random_weights)
    return bundle


def export_bundle(
    profile_name: str, models_dir: Path, progress: Progress, order: Order = DEFAULT
) -> Bundle:
    """Export a profile as a new bundle; returns the newest one where nothing has changed.

    Args:
        profile_name: a row of `export/profiles.py`.
        models_dir: where bundles go.
        progress: told of each step.
        order: from where, and how exact.

    Raises:
        InvalidRequest: no such profile, or a precision that the target cannot run.
        ConfigurationError: a checkpoint is missing or broken, or the export packages are missing.
    """
    profile = find_profile(profile_name)
    sources = find_sources(profile, order.places, order.random_weights)
    hashes = _hashes(profile, sources)
    key = export_key(profile, hashes, order)
    existing = list_bundles(models_dir, profile_name)
    if existing and existing[-1].key == key and not order.force:
        return existing[-1]
    version = existing[-1].version + 1 if existing else 1
    with staging_folder(models_dir / profile_name) as staging:
        written = _write_models(profile, sources, order, staging, progress)
        bundle = _describe(profile, version, written, order, hashes, key)
        report = msgspec.json.format(msgspec.json.encode(written.reports))
        (staging / REPORT_FILE).write_bytes(report)
        store_bundle(models_dir, bundle, staging)
    assemble_repository(models_dir, profile_name, allow_random_weights=order.random_weights)
    return bundle


def read_reports(models_dir: Path, bundle: Bundle) -> list[EncoderReport]:
    """Return what was found of each encoder when a bundle was exported."""
    folder = bundle_folder(models_dir, bundle.profile, bundle.version)
    return msgspec.json.decode((folder / REPORT_FILE).read_bytes(), type=list[EncoderReport])


@contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
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
    profile: Profile, sources: Sources, order: Order, staging: Path, progress: Progress
) -> "Written":
    """Import what needs torch only when something is exported."""
    try:
        from export.encoders import write_models
        from export.precision import Wanted
    except ImportError as error:
        raise ConfigurationError(
            f"exporting needs the package {error.name}: pip install 'pixserve[export]'"
        ) from error
    precision = ordered_precision(profile, order)
    wanted = Wanted(precision, trust_int8=order.random_weights and precision == "int8")
    return write_models(profile, sources, wanted, staging, progress)


def _describe(
    profile: Profile,
    version: int,
    written: "Written",
    order: Order,
    hashes: Mapping[str, str],
    key: str,
) -> Bundle:
    return Bundle(
        profile=profile.name,
        version=version,
        dims=profile.dims,
        capabilities=profile.capabilities,
        calibration={**written.bands, "keyword": profile.keyword_band},
        intents=written.intents,
        query_prefix=profile.sentence.query_prefix,
        passage_prefix=profile.sentence.passage_prefix,
        random_weights=order.random_weights,
        precisions={report.model: report.precision for report in written.reports},
        sources=_sources(profile, hashes, order.random_weights),
        key=key,
    )


def _hashes(profile: Profile, sources: Sources) -> dict[str, str]:
    """Return the SHA-256 of all that is read, by what it is."""
    weights = {
        name: content_hash(folder, _weight_files(name, folder, profile))
        for name, folder in sources.weights.items()
    }
    tokenizers = {
        f"{name} tokenizer": content_hash(folder, (TOKENIZER,))
        for name, folder in sources.tokenizers.items()
        if name in ("clip", "sentence") or (name == "audio" and profile.audio.text_tokens)
    }
    return weights | tokenizers


def _weight_files(name: str, folder: Path, profile: Profile) -> tuple[str, ...]:
    if name in profile.checkpoints:
        return checkpoint_files(folder, profile.checkpoints[name])
    return (OWN_FILES[name],)


def export_key(profile: Profile, hashes: Mapping[str, str], order: Order) -> str:
    """Return the SHA-256 over all that an export depends on: row, order, weights, code."""
    precision = ordered_precision(profile, order)
    inputs = [profile, dict(hashes), precision, order.random_weights]
    digest = hashlib.sha256(msgspec.json.encode(inputs, order="sorted"))
    here = Path(__file__).parent
    code = [path for path in sorted(here.glob("*.py")) if path.name not in NOT_IN_THE_FILES]
    training = here.parent / "training"
    made_up = sorted((training / "world").glob("*.py"))  # what bands and intents are fitted on
    others = (training / "models.py", training / "corpus.py", training / "tuning" / "tokens.py")
    for path in (*code, *others, *made_up):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(profile: Profile, hashes: Mapping[str, str], random_weights: bool) -> dict[str, str]:
    """Return where everything came from, in words."""
    untrained = f"random weights, seed {profile.seed}"
    titles = {name: row.title for name, row in profile.rows.items()} | {"fusion": "fusion"}
    places = {name: checkpoint.hub for name, checkpoint in profile.checkpoints.items()}
    found = {
        name: f"{places.get(name, title)} sha256:{hashes[name]}"
        if name in hashes
        else f"{title}: {untrained if random_weights else 'not trained'}"
        for name, title in titles.items()
    }
    tokenizers = {name: f"sha256:{digest}" for name, digest in hashes.items() if " " in name}
    stand_ins = {"clip tokenizer": "a stand-in"}
    if profile.audio.text_tokens:
        stand_ins["audio tokenizer"] = "the sentence encoder's, a stand-in"
    return found | stand_ins | tokenizers
