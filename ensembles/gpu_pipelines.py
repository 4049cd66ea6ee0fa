"""The DALI pipelines of the target `gpu`: DALI decodes, on the GPU, and fits as on a CPU.

    python -m ensembles.gpu_pipelines --data-dir /data --profile large

writes `model.dali` into each bundle of the repository that Triton loads, where it is not there yet;
to be run in the image that serves it, so that DALI writes and reads with one version. On a GPU
nothing of this has run (docs/gpu.md); the video pipeline runs on a CPU in the tests, whose DALI
decodes VP9.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode

from ensembles.bundle import list_bundles, repository_path
from ensembles.contracts import MAX_IMAGE_BATCH, Dimensions, Fit
from ensembles.pipelines import fit
from gateway.errors import ConfigurationError

GPU_THREADS = 4
SERIALISED = "model.dali"
BLANK_PX = 2  # side of the black frame that stands for an absent one; it is resized like any other

Device = Literal["cpu", "mixed"]


@pipeline_def  # type: ignore[untyped-decorator] # DALI's decorator has no types
def images_pipeline(size_px: int, how: Fit, device: Device) -> DataNode:
    """Encoded images to pixels (3, size, size)."""
    encoded = fn.external_source(name="ENCODED", dtype=types.UINT8, ndim=1)
    decoded = fn.decoders.image(encoded, device=device, output_type=types.RGB)
    return fit(decoded, size_px, "CHW", how)


@pipeline_def(enable_conditionals=True)  # type: ignore[untyped-decorator] # see above
def video_pipeline(size_px: int, how: Fit, device: Device) -> DataNode:
    """An encoded chunk and frame indices to pixels (frames, 3, size, size).

    A chunk without frames is asked for its frame ABSENT, which is negative: the answer is one black
    frame, and the chunk, which may have no picture at all, is not decoded.
    """
    chunk = fn.external_source(name="CHUNK", dtype=types.UINT8, ndim=1)
    indices = fn.external_source(name="FRAME_INDICES", dtype=types.INT32, ndim=1)
    if fn.reductions.min(indices) < 0:
        frames = _blank(device)
    else:
        frames = fn.decoders.video(chunk, device=device, frames=indices)
    return fit(frames, size_px, "FCHW", how)


def _blank(device: Device) -> DataNode:
    """Return one black frame where the decoder's frames are: in the GPU's memory, or not."""
    shape = (1, BLANK_PX, BLANK_PX, 3)
    black = types.Constant(value=0, dtype=types.UINT8, shape=shape, layout="FHWC", device="cpu")
    return black.gpu() if device == "mixed" else black


PIPELINES: dict[str, tuple[Any, int]] = {  # a model's pipeline, and its largest batch
    "decode_images": (images_pipeline, MAX_IMAGE_BATCH),
    "decode_video": (video_pipeline, 1),  # the config makes a chunk a batch of one
}


def serialise(model: str, dims: Dimensions, path: Path) -> None:
    """Write the pipeline of a decode model, in one step.

    Args:
        model: of `PIPELINES`.
        dims: the profile's sizes.
        path: of the file.
    """
    definition, batch = PIPELINES[model]
    pipeline = definition(
        size_px=dims.image_size_px,
        how=dims.fit,
        device="mixed",
        batch_size=batch,
        num_threads=GPU_THREADS,
        device_id=0,
    )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        fresh = Path(folder) / path.name
        fresh.write_bytes(pipeline.serialize())
        os.replace(fresh, path)


def serialise_all(models_dir: Path, profile: str) -> list[Path]:
    """Write what is missing of a profile's serialised pipelines; returns the files written.

    Raises:
        ConfigurationError: the profile has no repository.
    """
    repository = repository_path(models_dir, profile)
    if not repository.is_dir():
        raise ConfigurationError(
            f"{repository} is missing: pixserve export --profile {profile} --target gpu"
        )
    written = []
    for bundle in list_bundles(models_dir, profile):
        for model in PIPELINES:
            path = repository / model / str(bundle.version) / SERIALISED
            if path.parent.is_dir() and not path.exists():
                serialise(model, bundle.dims, path)
                written.append(path)
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Serialise the pipelines of a profile's repository."""
    parser = argparse.ArgumentParser(prog="python -m ensembles.gpu_pipelines")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--profile", required=True)
    options = parser.parse_args(arguments)
    for path in serialise_all(options.data_dir / "models", options.profile):
        print(f"wrote {path}", flush=True)  # noqa: T201 (a command's answer)


if __name__ == "__main__":
    main()
