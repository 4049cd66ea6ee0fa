"""The DALI pipelines that turn frames and images into the vision encoder's pixels.

One definition for every target: on a CPU the decoded frames come from outside; on a GPU (target
`gpu`, unverified until it has run) DALI decodes them itself. The geometry is CLIP's own: the
shorter side to the encoder's size with a bicubic, antialiased filter, then the centre.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nvidia.dali import fn, math, pipeline_def, types
from nvidia.dali.data_node import DataNode

from ensembles.arrays import UInt8Array
from ensembles.contracts import MAX_CHUNK_FRAMES, MAX_IMAGE_BATCH, Model

CPU_THREADS = 1
GPU_THREADS = 4


def fit(frames: DataNode, size_px: int, layout: str) -> DataNode:
    """Resize the shorter side to `size_px` and cut out the centre; uint8 throughout.

    The longer side's fraction of a pixel is cut off, and so is the crop's, as transformers'
    CLIPImageProcessor does; DALI by itself rounds both.

    Args:
        frames: (height, width, 3), or (frames, height, width, 3) for a layout that begins with F.
        size_px: of the result.
        layout: of the result, CHW or FCHW.
    """
    height_axis = layout.index("C")
    shape = frames.shape(dtype=types.FLOAT)
    height, width = shape[height_axis], shape[height_axis + 1]
    shorter = math.min(height, width)
    resized = fn.resize(
        frames,
        resize_y=math.floor(size_px * height / shorter),
        resize_x=math.floor(size_px * width / shorter),
        interp_type=types.INTERP_CUBIC,
        antialias=True,
        dtype=types.UINT8,
    )
    return fn.crop_mirror_normalize(
        resized,
        crop=(size_px, size_px),
        rounding="truncate",
        mean=[0.0],
        std=[1.0],
        dtype=types.UINT8,
        output_layout=layout,
    )


@pipeline_def  # type: ignore[untyped-decorator] # DALI's decorator has no types
def frames_pipeline(size_px: int) -> DataNode:
    """Decoded RGB frames (height, width, 3) to pixels (3, size, size)."""
    frames = fn.external_source(name="FRAMES", layout="HWC", dtype=types.UINT8, batch=True)
    return fit(frames, size_px, "CHW")


@pipeline_def  # type: ignore[untyped-decorator] # DALI's decorator has no types
def images_gpu_pipeline(size_px: int) -> DataNode:
    """Encoded images to pixels, decoded on the GPU."""
    encoded = fn.external_source(name="ENCODED", dtype=types.UINT8, ndim=1, device="cpu")
    decoded = fn.decoders.image(encoded, device="mixed", output_type=types.RGB)
    return fit(decoded, size_px, "CHW")


@pipeline_def  # type: ignore[untyped-decorator] # DALI's decorator has no types
def video_gpu_pipeline(size_px: int) -> DataNode:
    """An encoded chunk and frame indices to pixels (frames, 3, size, size), decoded by NVDEC."""
    chunk = fn.external_source(name="CHUNK", dtype=types.UINT8, ndim=1, device="cpu")
    indices = fn.external_source(name="FRAME_INDICES", dtype=types.INT32, ndim=1, device="cpu")
    decoded = fn.decoders.video(chunk, device="mixed", frames=indices)
    return fit(decoded, size_px, "FCHW")


class FrameFitter:
    """The CPU pipeline, built once and fed by hand."""

    def __init__(self, size_px: int) -> None:
        self._size_px = size_px
        # Feed-then-run needs a pipeline without prefetching, or the second request fails.
        self._pipeline = frames_pipeline(
            size_px=size_px,
            batch_size=MAX_CHUNK_FRAMES,
            num_threads=CPU_THREADS,
            device_id=None,
            prefetch_queue_depth=1,
            exec_pipelined=False,
            exec_async=False,
        )
        self._pipeline.build()

    def __call__(self, frames: Sequence[UInt8Array]) -> UInt8Array:
        """Fit frames.

        Args:
            frames: 1 … MAX_CHUNK_FRAMES arrays (height, width, 3) of uint8 RGB, of any sizes.

        Returns:
            (frames, 3, size, size) uint8.
        """
        self._pipeline.feed_input("FRAMES", list(frames), layout="HWC")
        (output,) = self._pipeline.run()
        return np.asarray(output.as_array())


def serialise_gpu_pipeline(model: Model, size_px: int, path: Path) -> None:
    """Write a decode model's `model.dali`; to be run in the container that will serve it.

    Unverified: needs a GPU and the vendor's container.
    """
    definitions: dict[str, Any] = {
        "decode_images": (images_gpu_pipeline, MAX_IMAGE_BATCH),
        "decode_video": (video_gpu_pipeline, 1),
    }
    definition, batch = definitions[model.name]
    pipeline = definition(size_px=size_px, batch_size=batch, num_threads=GPU_THREADS, device_id=0)
    pipeline.serialize(filename=str(path))
