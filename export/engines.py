"""What a TensorRT engine is: its cache key, its description, and what it is built with. Pure.

A plan loads only on the kind of GPU and the version of TensorRT that built it, so both are in its
key; so are the ONNX file and the shapes, so that a plan is never served for another model.
"""

import hashlib
import re
from collections.abc import Sequence

import msgspec

from ensembles.shapes import EngineProfile

KEY_CHARS = 24
LEAST_MAJOR = 10  # TensorRT: strongly typed networks since 10, nothing else since 11


class Builder(msgspec.Struct, frozen=True):
    """Where a plan is built, which is the only kind of place where it runs."""

    gpu: str
    compute_capability: str
    tensorrt: str  # version

    @property
    def slug(self) -> str:
        """The builder as a part of a file's name."""
        words = f"{self.gpu} sm{self.compute_capability} trt{self.tensorrt}"
        return re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-")


class Engine(msgspec.Struct, frozen=True):
    """What is written beside a plan."""

    model: str
    bundle: int
    builder: Builder
    onnx_sha256: str  # over the files of the ONNX model
    profiles: tuple[EngineProfile, ...]
    plan_sha256: str
    plan_bytes: int
    build_s: float


def engine_key(
    builder: Builder, onnx_sha256: str, profiles: Sequence[EngineProfile], workspace_bytes: int
) -> str:
    """Return the name of a plan in the cache: equal where a plan can be used again."""
    inputs = [builder, onnx_sha256, list(profiles), workspace_bytes]
    return hashlib.sha256(msgspec.json.encode(inputs, order="sorted")).hexdigest()[:KEY_CHARS]


def too_old(version: str) -> str:
    """Return why a version of TensorRT cannot build, or an empty string."""
    major = version.partition(".")[0]
    if not major.isdecimal() or int(major) < LEAST_MAJOR:
        return f"TensorRT is {version}; {LEAST_MAJOR}.0 or later is needed, as the image has it"
    return ""


def not_for_tensorrt(precision: str) -> str:
    """Return why a model of this precision cannot become an engine, or an empty string."""
    if precision == "int8":
        return "it is dynamic int8, which is for CPUs: export the profile with --target gpu"
    return ""
