"""Triton model `decode_video`: a chunk to the pixels of its frames.

PyAV decodes in the sandbox, DALI fits them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ensembles.contracts import DECODED_SIDES
from ensembles.pipelines import FrameFitter
from ensembles.serving import answer_each, lower_priority, output_axes, parameter, read
from ingest.decode import decode_frames
from ingest.sandbox import SANDBOX


class TritonPythonModel:
    """What Triton's Python backend loads."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Build the DALI pipeline and start the sandbox."""
        lower_priority(args)
        SANDBOX.enforced()
        size_px = output_axes(args, "PIXELS")[-1]
        self._decoded_px = DECODED_SIDES * size_px
        self._fit = FrameFitter(size_px, parameter(args, "fit", "crop"))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request."""
        return answer_each(requests, self._decode)

    def _decode(self, request: Any) -> dict[str, Any]:
        chunk = memoryview(read(request, "CHUNK"))
        frames = decode_frames(
            chunk,
            read(request, "FRAME_INDICES").tolist(),
            short_side_px=self._decoded_px,
        )
        return {"PIXELS": self._fit(frames)}
