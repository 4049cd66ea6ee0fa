"""Single texts that arrive together run together, whatever their lengths."""

import asyncio
from itertools import cycle

import numpy as np
import pytest
import tritonclient.grpc as official

from gateway.triton import Triton, served_bundle

pytestmark = pytest.mark.live

TEXTS = 256
LENGTHS = (3, 12, 25, 50)  # words: a different bucket of tokens each


def executions(address: str) -> int:
    """Return how often the sentence encoder ran."""
    with official.InferenceServerClient(address) as client:
        (model,) = client.get_inference_statistics("sentence").model_stats
    return int(model.execution_count)


@pytest.mark.anyio
async def test_texts_of_different_lengths_share_executions_and_keep_their_vectors(demo):
    address = demo.stack.part("triton").address
    triton = Triton(address, await served_bundle(address, timeout_s=60))
    texts = [" ".join(["bread"] * n) for n, _ in zip(cycle(LENGTHS), range(TEXTS), strict=False)]

    async def embed(text: str) -> np.ndarray:
        return (await triton.embed_text([text], "query", timeout_s=60))[0]

    alone = {text: await embed(text) for text in texts[: len(LENGTHS)]}
    before = executions(address)
    together = await asyncio.gather(*map(embed, texts))
    runs = executions(address) - before  # counted after the reply: the last one may be missing
    await triton.close()

    assert runs < TEXTS / 2
    cosines = [float(vector @ alone[text]) for text, vector in zip(texts, together, strict=True)]
    assert min(cosines) >= 0.9999
