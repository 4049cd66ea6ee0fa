"""The DALI pipelines that turn frames and images into the vision encoder's pixels.

One definition for every target: on a CPU the decoded frames come from outside; on a GPU (target
`gpu`, unverified until it has run) DALI decodes them itself. The geometry is the checkpoint's own,
always antialiased. CLIP's, `crop`: the shorter side to the encoder's size, bicubic, then the
centre. SigLIP 2's, `squash`: both sides to the encoder's size, bilinear.
"""

from collections.abc import Sequence

import numpy as np
from nvidia.dali import fn, math, pipeline_def, types
from nvidia.dali.data_node import DataNode

from ensembles.arrays import UInt8Array
from ensembles.contracts import MAX_CHUNK_FRAMES, Fit

CPU_THREADS = 1


def fit(frames: DataNode, size_px: int, layout: str, how: Fit) -> DataNode:
    """Bring frames to a square; uint8 throughout.

    Args:
        frames: (height, width, 3), or (frames, height, width, 3) for a layout that begins with F.
        size_px: of the result.
        layout: of the result, CHW or FCHW.
        how: `crop` or `squash`.
    """
    resized = _squashed(frames, size_px) if how == "squash" else _to_crop(frames, size_px, layout)
    return fn.crop_mirror_normalize(
        resized,
        crop=(size_px, size_px),
        rounding="truncate",
        mean=[0.0],
        std=[1.0],
        dtype=types.UINT8,
        output_layout=layout,
    )


def _squashed(frames: DataNode, size_px: int) -> DataNode:
    return fn.resize(
        frames,
        resize_y=size_px,
        resize_x=size_px,
        interp_type=types.INTERP_LINEAR,
        antialias=True,
        dtype=types.UINT8,
    )


def _to_crop(frames: DataNode, size_px: int, layout: str) -> DataNode:
    """Resize the shorter side to `size_px`.

    The longer side's fraction of a pixel is cut off, and so is the crop's, as transformers'
    CLIPImageProcessor does; DALI by itself rounds both.
    """
    height_axis = layout.index("C")
    shape = frames.shape(dtype=types.FLOAT)
    height, width = shape[height_axis], shape[height_axis + 1]
    shorter = math.min(height, width)
    return fn.resize(
        frames,
        resize_y=math.floor(size_px * height / shorter),
        resize_x=math.floor(size_px * width / shorter),
        interp_type=types.INTERP_CUBIC,
        antialias=True,
        dtype=types.UINT8,
    )


@pipeline_def  # type: ignore[untyped-decorator] # DALI's decorator has no types
def frames_pipeline(size_px: int, how: Fit) -> DataNode:
    """Decoded RGB frames (height, width, 3) to pixels (3, size, size)."""
    frames = fn.external_source(name="FRAMES", layout="HWC", dtype=types.UINT8, batch=True)
    return fit(frames, size_px, "CHW", how)


class FrameFitter:
    """The CPU pipeline, built once and fed by hand."""

    def __init__(self, size_px: int, how: Fit = "crop") -> None:
        # Feed-then-run needs a pipeline without prefetching, or the second request fails.
        self._pipeline = frames_pipeline(
            size_px=size_px,
            how=how,
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
