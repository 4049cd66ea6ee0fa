"""Triton model `decode_images`: encoded images to pixels.

The images are decoded in the sandbox, DALI fits them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ensembles.contracts import DECODED_SIDES, MAX_IMAGE_BYTES
from ensembles.pipelines import FrameFitter
from ensembles.serving import answer_each, output_axes, parameter, read
from gateway.errors import InvalidRequest
from ingest.decode import decode_image
from ingest.sandbox import SANDBOX


class TritonPythonModel:
    """What Triton's Python backend loads."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Build the DALI pipeline and start the sandbox."""
        SANDBOX.enforced()
        size_px = output_axes(args, "PIXELS")[-1]
        self._decoded_px = DECODED_SIDES * size_px
        self._fit = FrameFitter(size_px, parameter(args, "fit", "crop"))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request; one image that cannot be decoded refuses its request."""
        return answer_each(requests, self._decode)

    def _decode(self, request: Any) -> dict[str, Any]:
        encoded = read(request, "ENCODED")  # (images, longest)
        if encoded.shape[1] > MAX_IMAGE_BYTES:
            raise InvalidRequest(
                f"an image has {encoded.shape[1]} bytes; at most {MAX_IMAGE_BYTES} are taken"
            )
        images = [decode_image(memoryview(r), short_side_px=self._decoded_px) for r in encoded]
        return {"PIXELS": self._fit(images)}
