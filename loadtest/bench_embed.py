"""`embed_query` through Triton beside the bare ONNX Runtime sessions, in one run.

Every text goes both ways, one after the other, so that whatever else the machine does falls on
both. The floor is what a program with the models in its own process would pay: tokenize, CLIP text,
sentence, one after the other, on as many threads as Triton's encoders have.
"""

import time
from collections.abc import Callable, Sequence

import msgspec

from ensembles.arrays import FloatArray
from gateway.triton import Triton
from loadtest.floor import BareEncoders
from loadtest.stack import MeasuredStack, measured_bundle
from loadtest.stats import Latencies, latencies

WARM_UP = 50
TIMEOUT_S = 10.0


class EmbedReport(msgspec.Struct, frozen=True):
    """The times of both ways."""

    bundle: str  # its id
    triton_query: Latencies  # embed_query: both towers
    bare_query: Latencies
    triton_text: Latencies  # embed_text: the sentence encoder alone
    bare_text: Latencies
    least_cosine: float  # between the two ways' vectors


async def bench_embed(
    stack: MeasuredStack, texts: Sequence[str], progress: Callable[[int, int], None]
) -> EmbedReport:
    """Time each text both ways, one client.

    Args:
        stack: that is measured.
        texts: the queries, each used once a way; the first ones warm up and are not counted.
        progress: told of texts done and in all.
    """
    bundle = await measured_bundle(stack)
    triton = Triton(stack.triton, bundle)
    bare = BareEncoders(stack.models_dir, bundle)

    async def triton_query(text: str) -> list[FloatArray]:
        embeddings = await triton.embed_query(text, timeout_s=TIMEOUT_S)
        return [embeddings.clip, embeddings.sentence]

    async def bare_query(text: str) -> list[FloatArray]:
        return [bare.embed("clip", text), bare.embed("sentence", text)]

    async def triton_text(text: str) -> list[FloatArray]:
        return [(await triton.embed_text([text], "query", timeout_s=TIMEOUT_S))[0]]

    async def bare_text(text: str) -> list[FloatArray]:
        return [bare.embed("sentence", text)]

    ways = (triton_query, bare_query, triton_text, bare_text)
    times: dict[str, list[float]] = {way.__name__: [] for way in ways}
    least_cosine = 1.0
    for done, text in enumerate(texts):
        vectors = {}
        for way in ways:
            start = time.perf_counter()
            vectors[way.__name__] = await way(text)
            times[way.__name__].append(time.perf_counter() - start)
        pairs = zip(vectors["triton_query"], vectors["bare_query"], strict=True)
        least_cosine = min(least_cosine, *(float(served @ own) for served, own in pairs))
        progress(done + 1, len(texts))
    await triton.close()
    summaries = {name: latencies(seconds[WARM_UP:]) for name, seconds in times.items()}
    return EmbedReport(bundle=bundle.id, **summaries, least_cosine=least_cosine)
