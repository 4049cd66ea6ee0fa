"""Triton model `decode_audio`: a chunk to windows of its sound. PyAV decodes in the sandbox."""

from collections.abc import Mapping, Sequence
from typing import Any

from ensembles.serving import answer_each, lower_priority, read
from ingest.decode import decode_windows
from ingest.sandbox import SANDBOX


class TritonPythonModel:
    """What Triton's Python backend loads."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Start the sandbox."""
        lower_priority(args)
        SANDBOX.enforced()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request."""
        return answer_each(requests, self._decode)

    def _decode(self, request: Any) -> dict[str, Any]:
        chunk = memoryview(read(request, "CHUNK"))
        return {"AUDIO": decode_windows(chunk, read(request, "AUDIO_STARTS").tolist())}
