"""One encoder to its ONNX file: exported, compared with torch, in int8 or fp16 where asked for."""

import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from ensembles.arrays import FloatArray
from ensembles.contracts import Model
from export.fp16 import halve
from export.onnx import export_onnx, file_bytes, onnx_files, save_onnx
from export.parity import (
    EncoderReport,
    Likeness,
    compare,
    inexact,
    neighbour_overlap,
    too_coarse,
    too_rounded,
)
from export.profile_rows import Precision
from export.quantize import quantise, recipes_for, smooth
from export.samples import Feed
from gateway.errors import ConfigurationError

MEGABYTE = 1_000_000


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs that one encoder is tried on."""

    exact: Sequence[Feed]  # to compare with torch: all lengths, mixed batches
    judged: Sequence[Feed]  # to compare int8 and fp16 with fp32 on: many unlike rows
    seen: Sequence[Feed] = ()  # to calibrate on, none of them judged; none: stay fp32
    padded: Sequence[Feed] = ()  # pairs of `exact`, padded to the limit; none: not compared

    def judged_by(self, rows: int) -> "Sample":
        """Return the sample with the first `judged` inputs alone, that many rows at least."""
        counts = [len(next(iter(feed.values()))) for feed in self.judged]
        feeds = bisect_left(list(accumulate(counts)), rows) + 1
        return msgspec.structs.replace(self, judged=self.judged[:feeds])


class Wanted(msgspec.Struct, frozen=True):
    """Which precision was asked for."""

    precision: Precision
    trust_int8: bool = False  # random weights have no neighbours worth keeping: no gate for int8


def write_encoder(
    module: nn.Module, contract: Model, sample: Sample, wanted: Wanted, path: Path
) -> tuple[EncoderReport, FloatArray]:
    """Write an encoder's file.

    Args:
        module: in evaluation mode.
        contract: names, dtypes and shapes.
        sample: what it is tried on.
        wanted: the precision.
        path: the file to write.

    Returns:
        The report, and the embeddings of `sample.judged` by the file that was kept.

    Raises:
        ConfigurationError: the fp32 file does not return what torch returns.
    """
    fp32, padding = _exported(module, contract, sample, path)
    reason = inexact(fp32, padding)
    if reason:
        raise ConfigurationError(f"{contract.name} cannot be exported: {reason}")
    judged = run_encoder(path, sample.judged)
    report = EncoderReport(
        model=contract.name,
        precision="fp32",
        megabytes=file_bytes(path) / MEGABYTE,
        fp32=fp32,
        padding=padding,
        verdict="fp32 was asked for" if sample.seen else "stays fp32: small",
    )
    if wanted.precision == "fp32" or not sample.seen:
        return report, judged
    if wanted.precision == "fp16":
        return _try_fp16(report, judged, sample, path)
    return _try_int8(report, judged, sample, wanted, path)


def _exported(
    module: nn.Module, contract: Model, sample: Sample, path: Path
) -> tuple[Likeness, Likeness | None]:
    """Export a module; returns how near the file is to it, and to itself on padded texts."""
    with torch.no_grad():
        expected = [module(*map(torch.from_numpy, feed.values())).numpy() for feed in sample.exact]
    export_onnx(module, contract, path)
    actual = run_encoder(path, sample.exact)
    fp32 = compare(np.concatenate(expected), actual)
    if not sample.padded:
        return fp32, None
    padded = run_encoder(path, sample.padded)
    return fp32, compare(padded, actual[: len(padded)])


def _try_int8(
    report: EncoderReport, judged: FloatArray, sample: Sample, wanted: Wanted, path: Path
) -> tuple[EncoderReport, FloatArray]:
    """Replace the file by the fastest int8 one that passes the gate, where one does."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        smoothed, candidate = Path(folder) / "smoothed.onnx", Path(folder) / "int8.onnx"
        smooth(path, sample.seen, smoothed)
        for recipe in recipes_for(smoothed):
            quantise(smoothed, recipe, candidate)
            embeddings = run_encoder(candidate, sample.judged)
            int8 = compare(judged, embeddings)
            overlap = neighbour_overlap(judged, embeddings) if int8.finite else 0.0
            reason = too_coarse(int8, overlap)
            report = msgspec.structs.replace(
                report, int8=int8, overlap=overlap, recipe=recipe.name, verdict=f"fp32: {reason}"
            )
            if not reason or (wanted.trust_int8 and int8.finite):
                _replace(candidate, path)
                verdict = f"int8 although {reason}: random weights" if reason else "int8 passes"
                return _kept(report, "int8", path, verdict), embeddings
    return report, judged


def _try_fp16(
    report: EncoderReport, judged: FloatArray, sample: Sample, path: Path
) -> tuple[EncoderReport, FloatArray]:
    """Replace the file by its fp16 one, where that passes the gate.

    ONNX Runtime runs fp16 on a CPU in fp32, so this sees the rounded weights but not every rounded
    activation; `export/gpu_check.py` compares on the GPU.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        candidate = Path(folder) / "fp16.onnx"
        halve(path, sample.seen, candidate)
        embeddings = run_encoder(candidate, sample.judged)
        fp16 = compare(judged, embeddings)
        overlap = neighbour_overlap(judged, embeddings) if fp16.finite else 0.0
        reason = too_rounded(fp16)
        report = msgspec.structs.replace(
            report, fp16=fp16, overlap=overlap, verdict=f"fp32: {reason}"
        )
        if reason:
            return report, judged
        _replace(candidate, path)
    return _kept(report, "fp16", path, "fp16 passes"), embeddings


def _kept(report: EncoderReport, precision: Precision, path: Path, verdict: str) -> EncoderReport:
    megabytes = file_bytes(path) / MEGABYTE
    return msgspec.structs.replace(
        report, precision=precision, megabytes=megabytes, verdict=verdict
    )


def _replace(candidate: Path, path: Path) -> None:
    """Put one model in the place of another."""
    for old in onnx_files(path):
        old.unlink()
    save_onnx(onnx.load(str(candidate)), path)


def run_encoder(path: Path, feeds: Sequence[Feed]) -> FloatArray:
    """Return what an ONNX file returns for all rows of all feeds: (rows, width)."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rows: FloatArray = np.concatenate([session.run(None, feed)[0] for feed in feeds])
    return rows
