"""Triton model `fit_frames`: frames that were decoded elsewhere to pixels.

Ingest decodes keyframes to find the cuts, and sends those that it has chosen here. DALI fits them
as `decode_video` does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ensembles.contracts import MAX_CHUNK_FRAMES
from ensembles.pipelines import FrameFitter
from ensembles.serving import answer_each, lower_priority, output_axes, parameter, read
from gateway.errors import InvalidRequest


class TritonPythonModel:
    """What Triton's Python backend loads."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Build the DALI pipeline."""
        lower_priority(args)
        self._fit = FrameFitter(output_axes(args, "PIXELS")[-1], parameter(args, "fit", "crop"))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request."""
        return answer_each(requests, self._fitted)

    def _fitted(self, request: Any) -> dict[str, Any]:
        frames = read(request, "FRAMES")  # (frames, height, width, 3)
        if not 1 <= len(frames) <= MAX_CHUNK_FRAMES or not frames.size:
            raise InvalidRequest(
                f"frames of shape {frames.shape}: 1 to {MAX_CHUNK_FRAMES} of one pixel at least"
            )
        return {"PIXELS": self._fit(frames)}
