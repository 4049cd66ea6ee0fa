"""The part of TensorRT's Python interface that is used, as types: the package is seldom installed.

Source: the API reference of TensorRT 10 and 11. Nothing here runs.
"""
# ruff: noqa: D102, N802, A002 (the names and their meaning are TensorRT's own)

from collections.abc import Sequence
from typing import Any, Protocol


class OptimizationProfile(Protocol):
    """Of `tensorrt.IOptimizationProfile`, what is used."""

    def set_shape(
        self,
        input: str,
        min: Sequence[int],
        opt: Sequence[int],
        max: Sequence[int],
    ) -> None: ...


class BuilderConfig(Protocol):
    """Of `tensorrt.IBuilderConfig`, what is used."""

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None: ...
    def add_optimization_profile(self, profile: OptimizationProfile) -> int: ...
    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any: ...
    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool: ...
    def get_timing_cache(self) -> Any: ...


class EngineBuilder(Protocol):
    """Of `tensorrt.Builder`, what is used."""

    def create_network(self, flags: int) -> Any: ...
    def create_builder_config(self) -> BuilderConfig: ...
    def create_optimization_profile(self) -> OptimizationProfile: ...
    def build_serialized_network(self, network: Any, config: BuilderConfig) -> Any: ...


class Parser(Protocol):
    """Of `tensorrt.OnnxParser`, what is used."""

    num_errors: int

    def parse_from_file(self, path: str) -> bool: ...
    def get_error(self, index: int) -> Any: ...


class TensorRT(Protocol):
    """Of the package `tensorrt`, what is used; it comes with the serving image only."""

    __version__: str
    Logger: Any
    NetworkDefinitionCreationFlag: Any
    MemoryPoolType: Any

    def Builder(self, logger: Any) -> EngineBuilder: ...
    def OnnxParser(self, network: Any, logger: Any) -> Parser: ...
