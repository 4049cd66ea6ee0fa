"""A profile's sentence encoder in fp32 and in int8: how fast, and how near the vectors stay.

The int8 files are made here from the bundle's fp32 file, as `pixserve export` makes them, and are
judged by the functions that judge an export. All run on one thread, by turns, so that whatever
else the machine does falls on all.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle, bundle_folder, list_bundles
from export.build import read_reports
from export.encoders import CALIBRATION_STEP
from export.onnx import save_onnx
from export.parity import compare, neighbour_overlap, too_coarse
from export.precision import run_encoder
from export.quantize import RECIPES, quantise, smooth
from export.samples import Feed, plain_sentences, spoken_sentences
from gateway.errors import ConfigurationError
from loadtest.floor import open_session, open_tokenizer

MODEL: Final = "sentence"
SHAPES = ((1, 9), (1, 16), (16, 16))  # texts, tokens each
THREADS = 1
WARM_UP = 5  # runs
BATCH = 8  # sentences of different lengths that are judged together


class Variant(msgspec.Struct, frozen=True):
    """One file of the encoder, against the fp32 one."""

    name: str
    ms_p50: tuple[float, ...]  # one a shape of `SHAPES`
    mean_cosine: float
    least_cosine: float
    overlap: float  # of the nearest neighbours with those of fp32
    refused: str  # why the gate of an export refuses it; empty where it passes


class PrecisionReport(msgspec.Struct, frozen=True):
    """All variants of one bundle's sentence encoder."""

    bundle: str
    exported: str  # what the export itself kept of this encoder, and why
    sentences: int  # that the variants were judged on
    variants: tuple[Variant, ...]


def bench_precision(
    models_dir: Path, profile: str, runs: int, progress: Callable[[], None]
) -> PrecisionReport:
    """Measure the sentence encoder of a profile's newest bundle that has it in fp32.

    Args:
        models_dir: of the data folder.
        profile: whose bundle.
        runs: of each variant at each shape.
        progress: told after each round of runs.

    Raises:
        ConfigurationError: no bundle of the profile has the encoder in fp32.
    """
    bundle = fp32_bundle(models_dir, profile)
    fp32 = bundle_folder(models_dir, bundle.profile, bundle.version) / MODEL / "model.onnx"
    judged = _feeds(models_dir, bundle, spoken_sentences())
    seen = _feeds(models_dir, bundle, plain_sentences()[::CALIBRATION_STEP])
    with tempfile.TemporaryDirectory() as folder:
        files = {"fp32": fp32, **_write_int8(fp32, seen, Path(folder))}
        times = _times(files, _shaped(models_dir, bundle), runs, progress)
        embeddings = {name: run_encoder(path, judged) for name, path in files.items()}
    return PrecisionReport(
        bundle=bundle.id,
        exported=_verdict(models_dir, bundle),
        sentences=len(embeddings["fp32"]),
        variants=tuple(
            judge(name, times[name], embeddings["fp32"], vectors)
            for name, vectors in embeddings.items()
        ),
    )


def fp32_bundle(models_dir: Path, profile: str) -> Bundle:
    """Return a profile's newest bundle whose sentence encoder is in fp32."""
    for bundle in reversed(list_bundles(models_dir, profile)):
        if bundle.precisions.get(MODEL, "fp32") == "fp32":
            return bundle
    raise ConfigurationError(
        f"no bundle of {profile} in {models_dir} has its sentence encoder in fp32: "
        f"pixserve export --profile {profile} --precision fp32"
    )


def judge(
    name: str, ms_p50: tuple[float, ...], reference: FloatArray, vectors: FloatArray
) -> Variant:
    """Compare a variant's vectors with those of fp32, both (sentences, width)."""
    likeness = compare(reference, vectors)
    overlap = neighbour_overlap(reference, vectors) if likeness.finite else 0.0
    return Variant(
        name=name,
        ms_p50=ms_p50,
        mean_cosine=likeness.mean_cosine,
        least_cosine=likeness.least_cosine,
        overlap=overlap,
        refused=too_coarse(likeness, overlap),
    )


def _write_int8(fp32: Path, seen: Sequence[Feed], folder: Path) -> dict[str, Path]:
    """Write the plain int8 file, and one a recipe of the export."""
    smoothed, plain = folder / "smoothed.onnx", folder / "plain.onnx"
    smooth(fp32, seen, smoothed)
    model = onnx.load(str(fp32))
    add_pre_process_metadata(model)  # as `smooth` does: or ONNX Runtime advises a needless pass
    save_onnx(model, plain)
    sources = {"int8": (plain, RECIPES[0])} | {
        "int8, smoothed" + ("" if recipe.contracting else ", contracting fp32"): (smoothed, recipe)
        for recipe in RECIPES
    }
    files = {}
    for number, (name, (source, recipe)) in enumerate(sources.items()):
        files[name] = folder / str(number) / "model.onnx"
        files[name].parent.mkdir()
        quantise(source, recipe, files[name])
    return files


def _feeds(models_dir: Path, bundle: Bundle, texts: Sequence[str]) -> list[Feed]:
    """Tokenize passages, BATCH of them together."""
    tokenizer = open_tokenizer(models_dir, bundle, MODEL)
    parts = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    return [tokenizer.encode(part, ["passage"] * len(part)) for part in parts]


def _shaped(models_dir: Path, bundle: Bundle) -> list[Feed]:
    """Return a feed of exactly as many texts and tokens as each of SHAPES has."""
    tokenizer = open_tokenizer(models_dir, bundle, MODEL)
    long = tokenizer.encode([" ".join(plain_sentences())], ["query"])
    return [
        {name: np.repeat(ids[:, :tokens], texts, axis=0) for name, ids in long.items()}
        for texts, tokens in SHAPES
    ]


def _times(
    files: Mapping[str, Path], feeds: Sequence[Feed], runs: int, progress: Callable[[], None]
) -> dict[str, tuple[float, ...]]:
    """Return each file's median ms at each feed."""
    sessions = {name: open_session(path, THREADS) for name, path in files.items()}
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in feeds] for name in files}
    for _ in range(WARM_UP + runs):
        for name, session in sessions.items():
            for place, feed in enumerate(feeds):
                seconds[name][place].append(_time(session, feed))
        progress()
    return {
        name: tuple(1_000 * median(times[WARM_UP:]) for times in places)
        for name, places in seconds.items()
    }


def _time(session: ort.InferenceSession, feed: Feed) -> float:
    start = time.perf_counter()
    session.run(None, feed)
    return time.perf_counter() - start


def _verdict(models_dir: Path, bundle: Bundle) -> str:
    try:
        report = next(r for r in read_reports(models_dir, bundle) if r.model == MODEL)
    except FileNotFoundError:
        return "fp32 (the bundle is older than the reports of exports)"
    return f"{report.precision} ({report.verdict})"
