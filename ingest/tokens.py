"""The tokens of a video: what was seen, heard and said, as embeddings, kept beside the video.

A new fusion network, a rebuilt index or more PIX then need no decoding of what was already seen.
One file of NumPy arrays, half precision, written whole or not at all.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembles.arrays import Float64Array, FloatArray, Int32Array
from ensembles.bundle import Bundle
from gateway.errors import ConfigurationError
from ingest.files import replacing

TOKENS_FILE = "tokens.npz"  # of the last analysis


@dataclass(frozen=True)
class Tokens:
    """Embeddings as unit rows, float32; times in seconds on the player's clock."""

    model_version: str  # the bundle that made them

    frames: FloatArray  # (frames, vision)
    frame_times_s: Float64Array  # (frames,)
    frame_segments: Int32Array  # (frames,) index of the segment
    frame_weights: FloatArray  # (frames,)
    audio: FloatArray  # (windows, audio)
    audio_times_s: Float64Array  # (windows,) where each window begins
    audio_segments: Int32Array  # (windows,)
    audio_weights: FloatArray  # (windows,)
    text: FloatArray  # (texts, sentence)
    text_segments: Int32Array  # (texts,)
    text_weights: FloatArray  # (texts,)
    segment_starts_s: Float64Array  # (segments,)
    segment_ends_s: Float64Array  # (segments,)

    def write(self, path: Path) -> None:
        """Write them, embeddings in half precision; a crash leaves the old file or the new one."""
        arrays = {name: np.asarray(getattr(self, name)) for name in NAMES}
        arrays |= {name: arrays[name].astype(np.float16) for name in WIDE}
        with replacing(path) as file:
            np.savez(file, allow_pickle=False, **arrays)


NAMES = tuple(field.name for field in fields(Tokens))
ARRAYS = NAMES[1:]  # all but the version
WIDE = ("frames", "audio", "text")  # stored in half precision
ROWS = {  # arrays that have as many rows as the embeddings they tell of
    "frames": ("frame_times_s", "frame_segments", "frame_weights"),
    "audio": ("audio_times_s", "audio_segments", "audio_weights"),
    "text": ("text_segments", "text_weights"),
    "segment_starts_s": ("segment_ends_s",),
}


def no_tokens(bundle: Bundle) -> Tokens:
    """Return no tokens at all, as wide as a bundle's."""
    dims, none = bundle.dims, np.zeros(0, np.float32)
    return Tokens(
        model_version=bundle.id,
        frames=np.zeros((0, dims.vision), np.float32),
        frame_times_s=np.zeros(0, np.float64),
        frame_segments=np.zeros(0, np.int32),
        frame_weights=none,
        audio=np.zeros((0, dims.audio), np.float32),
        audio_times_s=np.zeros(0, np.float64),
        audio_segments=np.zeros(0, np.int32),
        audio_weights=none,
        text=np.zeros((0, dims.sentence), np.float32),
        text_segments=np.zeros(0, np.int32),
        text_weights=none,
        segment_starts_s=np.zeros(0, np.float64),
        segment_ends_s=np.zeros(0, np.float64),
    )


def kept_tokens_path(folder: Path, bundle_id: str) -> Path:
    """Return where a video's tokens of another version than that of its last analysis are."""
    return folder / f"tokens-{bundle_id}.npz"


def tokens_path(folder: Path, bundle_id: str) -> Path:
    """Return where a video's tokens of a version are: those made for it, or the last analysis'."""
    kept = kept_tokens_path(folder, bundle_id)
    return kept if kept.is_file() else folder / TOKENS_FILE


def read_tokens(path: Path, bundle: Bundle) -> Tokens:
    """Read tokens that a bundle made.

    Raises:
        ConfigurationError: the file is damaged, or another bundle made it.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in NAMES}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigurationError(f"{path} is no file of tokens ({error}): ingest again") from error
    version = str(arrays.pop("model_version"))
    if version != bundle.id:
        raise ConfigurationError(f"{path} is of bundle {version!r}, not {bundle.id!r}")
    _check_shapes(path, arrays, bundle)
    arrays |= {name: arrays[name].astype(np.float32) for name in WIDE}
    return Tokens(model_version=version, **arrays)


def _check_shapes(path: Path, arrays: Mapping[str, NDArray[Any]], bundle: Bundle) -> None:
    """Refuse arrays whose shapes do not fit the bundle or each other."""
    dims = bundle.dims
    for name, width in zip(WIDE, (dims.vision, dims.audio, dims.sentence), strict=True):
        shape = arrays[name].shape
        if len(shape) != 2 or shape[1] != width:
            raise ConfigurationError(f"{path}: {name} has shape {shape}, not (n, {width})")
    for name, others in ROWS.items():
        for other in others:
            expected = (len(arrays[name]),)
            if arrays[other].shape != expected:
                message = f"{path}: {other} has shape {arrays[other].shape}, not {expected}"
                raise ConfigurationError(message)
