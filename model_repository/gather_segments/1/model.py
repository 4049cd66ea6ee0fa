"""Triton model `gather_segments`: the tokens of a chunk to one padded row of tokens a segment."""

from collections.abc import Mapping, Sequence
from typing import Any

from ensembles.gather import gather
from ensembles.serving import answer_each, lower_priority


class TritonPythonModel:
    """What Triton's Python backend loads."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Nothing to load."""
        lower_priority(args)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request."""
        return answer_each(requests, gather_chunk)


def gather_chunk(request: Any) -> dict[str, Any]:
    """Gather the three modalities of one chunk; each segment has at most one text."""
    tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    segments = len(tensors["TEXT_EMBEDDINGS"])
    frames, frame_weights = gather(
        tensors["FRAME_EMBEDDINGS"], tensors["FRAME_SEGMENTS"], tensors["FRAME_WEIGHTS"], segments
    )
    audio, audio_weights = gather(
        tensors["AUDIO_EMBEDDINGS"], tensors["AUDIO_SEGMENTS"], tensors["AUDIO_WEIGHTS"], segments
    )
    return {
        "FRAME_TOKENS": frames,
        "FRAME_TOKEN_WEIGHTS": frame_weights,
        "AUDIO_TOKENS": audio,
        "AUDIO_TOKEN_WEIGHTS": audio_weights,
        "TEXT_TOKENS": tensors["TEXT_EMBEDDINGS"][:, None, :],
        "TEXT_TOKEN_WEIGHTS": tensors["TEXT_WEIGHTS"][:, None],
    }
