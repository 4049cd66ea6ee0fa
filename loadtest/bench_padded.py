"""A query's embedding at a fixed rate: ours through Triton, and beside it the plain way.

The plain way is what a program pays that follows the checkpoints' own examples: both text towers
in fp32 in its own process, the CLIP text padded to the limit, all cores, one query after the other.
It is spared a server, so it is a floor. Arrivals are planned ahead (Poisson), and a latency counts
from when its query was due: one that waits behind others pays for it.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import msgspec

from ensembles.build import machine_cores
from ensembles.bundle import Bundle
from gateway.triton import Triton
from loadtest.floor import TOWERS, open_encoder, open_tokenizer, padded, padding_of
from loadtest.queries import unique_queries
from loadtest.stack import MeasuredStack
from loadtest.stats import Latencies, latencies

CLIP_TOKENS = (8, 16)  # of the queries: fewest and most
WARM_UP = 20
TIMEOUT_S = 60.0
SEED = 5

Ask = Callable[[str], Awaitable[object]]


class RateReport(msgspec.Struct, frozen=True):
    """Both ways at one rate."""

    served: str  # the bundle behind Triton
    served_precisions: dict[str, str]
    plain: str  # the bundle in this process
    per_s: float
    ours: Latencies
    padded: Latencies


class PaddedEncoders:
    """Both text towers in this process, the CLIP text padded to its limit."""

    def __init__(self, models_dir: Path, bundle: Bundle) -> None:
        cores = machine_cores()
        self._sessions = {
            encoder: open_encoder(models_dir, bundle, model, cores)
            for encoder, model in TOWERS.items()
        }
        self._tokenizers = {
            encoder: open_tokenizer(models_dir, bundle, encoder) for encoder in TOWERS
        }
        self._limits = padding_of(bundle)

    def clip_tokens(self, text: str) -> int:
        """Return how many tokens the CLIP tower reads, without padding."""
        return int(self._tokenizers["clip"].encode([text], ["query"])["CLIP_MASK"].sum())

    def embed(self, text: str) -> None:
        """Tokenize one query and run both towers."""
        for encoder, session in self._sessions.items():
            feed = self._tokenizers[encoder].encode([text], ["query"])
            session.run(None, padded(feed, self._limits[encoder]))


async def bench_padded(
    stack: MeasuredStack,
    bundle: Bundle,
    plain: tuple[Path, Bundle],
    *,
    per_s: float,
    seconds: float,
    done: Callable[[], None],
) -> RateReport:
    """Ask both ways the same queries at the same times, one way after the other.

    Args:
        stack: that serves ours.
        bundle: that it serves.
        plain: the folder of models, and the fp32 bundle to run in this process.
        per_s: queries a second, offered.
        seconds: how long, each way.
        done: told of each answer.
    """
    encoders = PaddedEncoders(*plain)
    dues_s = arrivals(per_s, seconds)
    texts = fitting_queries(encoders, len(dues_s) + WARM_UP)
    triton = Triton(stack.triton, bundle)

    async def served(text: str) -> None:
        await triton.embed_query(text, timeout_s=TIMEOUT_S)
        done()

    with ThreadPoolExecutor(max_workers=1) as one:

        async def padded(text: str) -> None:
            await asyncio.get_running_loop().run_in_executor(one, encoders.embed, text)
            done()

        times = {way: await open_loop(way, texts, dues_s) for way in (served, padded)}
    await triton.close()
    return RateReport(
        served=bundle.id,
        served_precisions={
            model: bundle.precisions.get(model, "fp32") for model in TOWERS.values()
        },
        plain=plain[1].id,
        per_s=per_s,
        ours=latencies(times[served]),
        padded=latencies(times[padded]),
    )


def arrivals(per_s: float, seconds: float) -> list[float]:
    """Return when each query is due, in seconds from the start: a Poisson process, seeded."""
    rng = random.Random(SEED)  # noqa: S311 (a measurement, not a secret)
    gaps = (rng.expovariate(per_s) for _ in range(round(per_s * seconds)))
    return list(accumulate(gaps))


def fitting_queries(encoders: PaddedEncoders, count: int) -> list[str]:
    """Return different queries, cut after the word with which they have CLIP_TOKENS."""
    fewest, most = CLIP_TOKENS
    fitting: dict[str, None] = {}
    for query in unique_queries(2 * count):
        words = query.split()
        heads = (" ".join(words[:end]) for end in range(len(words), 0, -1))
        head = next((text for text in heads if encoders.clip_tokens(text) <= most), "")
        if head and encoders.clip_tokens(head) >= fewest:
            fitting[head] = None
    return list(fitting)[:count]


async def open_loop(ask: Ask, texts: Sequence[str], dues_s: Sequence[float]) -> list[float]:
    """Ask each text when it is due, whatever became of those before: seconds since then."""
    for text in texts[:WARM_UP]:
        await ask(text)
    start = time.perf_counter()

    async def one(text: str, due_s: float) -> float:
        await asyncio.sleep(start + due_s - time.perf_counter())
        await ask(text)
        return time.perf_counter() - start - due_s

    return await asyncio.gather(*map(one, texts[WARM_UP:], dues_s))
