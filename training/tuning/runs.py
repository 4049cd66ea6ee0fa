"""What a fine-tuning run leaves in its folder: its description, the weights and the pairs."""

import hashlib
from pathlib import Path
from typing import Literal

import msgspec
from safetensors.torch import load_file, save_file
from torch import nn

from ensembles.bundle import Band, Bundle
from gateway.errors import ConfigurationError, NotFound
from training.evaluation.bootstrap import Comparison, Measures
from training.tuning.fit import FitSettings, Fitted

RUN_FILE = "run.json"
PAIRS_FILE = "pairs.jsonl"  # all of them: with the settings' seed they part as they did
KEY_CHARS = 12  # of a run's key in its checkpoint's name

Kind = Literal["fusion", "clip"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What was trained, on what, and what it came to."""

    kind: Kind
    trained_from: str  # the bundle, e.g. mini-1
    key: str  # SHA-256 over pairs, bundle and settings
    source: str  # where the pairs are
    pairs: int
    held_out: int  # of them
    settings: FitSettings
    fitted: Fitted
    measures: dict[str, Measures]  # on the held-out pairs: `current`, `trained`, …
    against_current: Comparison  # on the held-out pairs
    bands: dict[str, Band]  # of the legs that were trained


def run_key(pairs: object, bundle: Bundle, settings: FitSettings) -> str:
    """Return the SHA-256 over what training depends on."""
    return hashlib.sha256(msgspec.json.encode([pairs, bundle.id, bundle.key, settings])).hexdigest()


def checkpoint_path(folder: Path, key: str) -> Path:
    """Return where a run's checkpoint is: a run of other pairs or settings begins anew."""
    return folder / f"checkpoint-{key[:KEY_CHARS]}.pt"


def write_run(folder: Path, run: Run, module: nn.Module) -> None:
    """Write a run's weights, and then its description."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(module, folder / f"{run.kind}.safetensors")
    (folder / RUN_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(run)))


def read_run(folder: Path) -> Run:
    """Read a run's description.

    Raises:
        NotFound: there is none.
        ConfigurationError: it is damaged.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise NotFound(f"{folder} holds no finished run: pixserve train fusion, or train clip")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"{path} is damaged ({error}): train again") from error


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights as safetensors."""
    partial = path.with_name(f".{path.name}.partial")
    weights = {name: value.detach().contiguous() for name, value in module.state_dict().items()}
    save_file(weights, partial)
    partial.replace(path)


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module with the weights of a file.

    Raises:
        ConfigurationError: they are of another model.
    """
    try:
        module.load_state_dict(load_file(path))
    except Exception as error:  # damaged files and other models fail in many ways
        raise ConfigurationError(
            f"{path} does not hold the weights of this model ({type(error).__name__})"
        ) from error
