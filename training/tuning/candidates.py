"""What was trained as a new bundle beside the current one: exported, compared, kept or dropped.

A candidate shares every file that was not trained with the bundle that it was trained from, by
hard link: bundles are never changed. `training.tuning.promote` makes one current.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from torch import nn

from ensembles.bundle import Bundle, bundle_folder, list_bundles
from ensembles.contracts import models
from export.build import REPORT_FILE, read_reports, staging_folder
from export.checkpoints import content_hash
from export.encoders import sample_inputs
from export.modules import ClipText, ClipVision
from export.parity import EncoderReport
from export.precision import Wanted, write_encoder
from export.profile_rows import Precision
from export.profiles import find_profile
from export.repository import assemble_repository, store_bundle
from export.weights import build_clip, build_fusion
from gateway.catalogue.catalogue import Catalogue
from gateway.errors import Conflict, NotFound
from training.tuning.runs import Run, load_weights

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


def find_bundle(models_dir: Path, bundle_id: str) -> Bundle:
    """Return an exported bundle by its id, e.g. `mini-2`.

    Raises:
        NotFound: there is none; those that there are are listed.
    """
    bundles = list_bundles(models_dir, bundle_id.rpartition("-")[0]) if "-" in bundle_id else ()
    for bundle in bundles:
        if bundle.id == bundle_id:
            return bundle
    known = ", ".join(bundle.id for bundle in bundles) or "none of this profile"
    raise NotFound(f"there is no bundle {bundle_id!r}; there are: {known}")


def export_run(run: Run, folder: Path, models_dir: Path, progress: Progress) -> Bundle:
    """Export a run's weights as a new bundle; returns the one that has them already.

    Args:
        run: what was trained.
        folder: with its weights.
        models_dir: where the bundles are.
        progress: told of each step.

    Raises:
        NotFound: the bundle that it was trained from is gone.
        ConfigurationError: the weights are of another model, or the export is not exact.
    """
    base = find_bundle(models_dir, run.trained_from)
    weights = folder / f"{run.kind}.safetensors"
    key = content_hash(folder, (weights.name,))
    bundles = list_bundles(models_dir, base.profile)
    existing = next((bundle for bundle in bundles if bundle.key == key), None)
    if existing is not None:
        return existing
    modules = _trained_modules(run, base, weights)
    with staging_folder(models_dir / base.profile) as staging:
        _share(bundle_folder(models_dir, base.profile, base.version), staging, modules)
        reports = _write(modules, base, staging, progress)
        _write_reports(staging, reports, base, models_dir)
        shutil.copy(weights, staging / weights.name)
        bundle = _describe(run, base, bundles[-1].version + 1, reports, key)
        store_bundle(models_dir, bundle, staging)
    assemble_repository(models_dir, base.profile, allow_random_weights=base.random_weights)
    return bundle


def keep_current(bundle_id: str, models_dir: Path, catalogue: Catalogue) -> str:
    """Remove a candidate and keep what is current; returns the current bundle's id.

    Raises:
        NotFound: there is no such bundle.
        Conflict: it is the current one, or the only one.
    """
    bundle = find_bundle(models_dir, bundle_id)
    current = catalogue.versions.current()
    if current is None or current == bundle.id:
        raise Conflict(
            f"{bundle.id} is what searches use: promote another bundle before this one is removed"
        )
    catalogue.versions.forget(bundle.id)  # there is no way back to it
    folder = bundle_folder(models_dir, bundle.profile, bundle.version)
    dropped = folder.with_name(f".dropped-{folder.name}")
    os.replace(folder, dropped)  # from here on nothing lists it
    shutil.rmtree(dropped)
    assemble_repository(models_dir, bundle.profile, allow_random_weights=bundle.random_weights)
    return current


def _trained_modules(run: Run, base: Bundle, weights: Path) -> dict[str, nn.Module]:
    """Return what was trained, by the name of its Triton model."""
    profile = find_profile(base.profile)
    if run.kind == "fusion":
        fusion = build_fusion(profile, None)
        load_weights(fusion, weights)
        return {"fusion": fusion}
    clip = build_clip(profile, None)
    load_weights(clip, weights)
    return {"clip_text": ClipText(clip), "clip_vision": ClipVision(clip)}


def _share(base_folder: Path, staging: Path, replaced: Mapping[str, nn.Module]) -> None:
    """Link the files of all models but those that are replaced, and other trained weights."""
    for entry in sorted(base_folder.iterdir()):
        if entry.suffix == ".safetensors":
            os.link(entry, staging / entry.name)
        if not entry.is_dir() or entry.name in replaced:
            continue
        (staging / entry.name).mkdir()
        for file in sorted(entry.iterdir()):
            os.link(file, staging / entry.name / file.name)


def _write(
    modules: Mapping[str, nn.Module], base: Bundle, staging: Path, progress: Progress
) -> list[EncoderReport]:
    profile = find_profile(base.profile)
    contracts = models(base.dims)
    tries = sample_inputs(profile, contracts, staging / "tokenize")
    reports = []
    for done, (name, module) in enumerate(modules.items()):
        progress(f"export {name}", done, len(modules))
        (staging / name).mkdir()
        precision: Precision = "fp32" if base.precisions.get(name, "fp32") == "fp32" else "auto"
        path = staging / name / "model.onnx"
        report, _ = write_encoder(
            module.eval(), contracts[name], tries[name], Wanted(precision), path
        )
        reports.append(report)
    return reports


def _write_reports(
    staging: Path, reports: list[EncoderReport], base: Bundle, models_dir: Path
) -> None:
    """Write the new encoders' reports beside those of the encoders that are shared."""
    base_folder = bundle_folder(models_dir, base.profile, base.version)
    before = read_reports(models_dir, base) if (base_folder / REPORT_FILE).is_file() else []
    new = {report.model for report in reports}
    shared = [report for report in before if report.model not in new]
    text = msgspec.json.format(msgspec.json.encode([*shared, *reports]))
    (staging / REPORT_FILE).write_bytes(text)


def _describe(
    run: Run, base: Bundle, version: int, reports: list[EncoderReport], key: str
) -> Bundle:
    told = f"fine-tuned from {base.id} on {run.pairs} pairs, sha256:{key}"
    trained = {"fusion_trained": True} if run.kind == "fusion" else {"words_to_pixels": True}
    return msgspec.structs.replace(
        base,
        version=version,
        capabilities=msgspec.structs.replace(base.capabilities, **trained),
        calibration=base.calibration | run.bands,
        precisions=base.precisions | {report.model: report.precision for report in reports},
        sources=base.sources | {run.kind: told},
        key=key,
    )
