"""What the local stack's models run on, and whether this machine's ONNX Runtime can."""

from collections.abc import Collection
from typing import Literal, get_args

from gateway.errors import ConfigurationError, InvalidRequest

StackTarget = Literal["cpu", "cuda"]
CUDA = "CUDAExecutionProvider"


def parse_target(name: str) -> StackTarget:
    """Return a target by its name; raises `InvalidRequest` where there is none of that name."""
    for target in get_args(StackTarget):
        if name == target:
            return target  # type: ignore[no-any-return]  # get_args has no types
    raise InvalidRequest(
        f"--target takes {' or '.join(get_args(StackTarget))}, not {name!r}; the target gpu is "
        "served from the image of Triton (docs/gpu.md)"
    )


def require_provider(target: StackTarget, available: Collection[str] | None = None) -> None:
    """Refuse a target that ONNX Runtime cannot run: it would fall back to the CPU by itself.

    Args:
        target: what was asked for.
        available: ONNX Runtime's providers; by default those that are installed.

    Raises:
        ConfigurationError: names the package to install.
    """
    if target == "cpu":
        return
    if available is None:
        available = _installed_providers()
    if CUDA not in available:
        raise ConfigurationError(
            f"--target cuda needs ONNX Runtime with {CUDA}, here it has "
            f"{', '.join(available) or 'none'}: pip uninstall onnxruntime, then "
            "pip install 'onnxruntime-gpu[cuda,cudnn]' (both are imported as onnxruntime)"
        )


def _installed_providers() -> list[str]:
    import onnxruntime

    return list(onnxruntime.get_available_providers())
