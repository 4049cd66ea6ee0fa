"""Recall under load: sampled answers beside those to the same questions, asked calmly afterwards.

The calm search has a patient deadline, so no leg is left out of it; recall is the share of the
moments in the calm answer that the answer under load held too. What a calm search of this index
finds is the truth here: whether *that* is right is for `pixserve bench quality` to say.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.harness.analysis import Recall
from loadtest.harness.records import Outcome
from loadtest.harness.scenario import SearchText, Target
from loadtest.harness.worker.http import HttpClient, NoReply
from loadtest.harness.worker.share import Sample
from loadtest.harness.worker.targets import read_search, search_request

CALM_DEADLINE_MS = 10_000
CALM_TIMEOUT_S = 15.0
CALM_TOTAL_S = 60.0  # for all questions together
MAX_QUESTIONS = 400  # asked again, one after the other
FIRST_PAUSE_S = 1.0  # for what the load left behind


def measure_recall(
    url: str,
    targets: Sequence[Target],
    items: Sequence[Sequence[Any]],
    samples: Sequence[Sample],
) -> dict[str, Recall]:
    """Ask sampled questions again and compare.

    Args:
        url: of the gateway.
        targets: of the scenario; only searches with words are compared.
        items: their payloads.
        samples: what was found under load.

    Returns:
        Recall by target's label; nothing of those without samples.
    """
    asked = [s for s in samples if isinstance(targets[s.target], SearchText)][:MAX_QUESTIONS]
    if not asked:
        return {}
    shares = asyncio.run(_compare(url, targets, items, asked))
    return {
        targets[index].label: Recall(
            _mean(kept[False]), _mean(kept[True]), sum(map(len, kept.values()))
        )
        for index, kept in shares.items()
    }


async def _compare(
    url: str, targets: Sequence[Target], items: Sequence[Sequence[Any]], samples: Sequence[Sample]
) -> Mapping[int, Mapping[bool, list[float]]]:
    """Return the recall of each sample, by target and by whether it was degraded."""
    shares: dict[int, dict[bool, list[float]]] = defaultdict(lambda: {False: [], True: []})
    await asyncio.sleep(FIRST_PAUSE_S)
    give_up_s = time.monotonic() + CALM_TOTAL_S
    async with HttpClient(url) as http:
        for sample in samples:
            if time.monotonic() > give_up_s:
                break
            target = targets[sample.target]
            assert isinstance(target, SearchText)
            payloads = items[sample.target]
            query = payloads[sample.item % len(payloads)]
            try:
                async with asyncio.timeout(CALM_TIMEOUT_S):
                    request = search_request(target, query, CALM_DEADLINE_MS)
                    calm = read_search(await http.exchange(request))
            except (NoReply, TimeoutError):
                continue
            if calm.outcome is not Outcome.OK:
                continue  # not even a patient search is whole now: it is no truth
            if calm.found:
                shares[sample.target][sample.degraded].append(overlap(sample.found, calm.found))
    return shares


def overlap(found: Sequence[str], calm: Sequence[str]) -> float:
    """Return the share of `calm` that `found` holds."""
    return len(set(found) & set(calm)) / len(set(calm))


def _mean(shares: Sequence[float]) -> float | None:
    return sum(shares) / len(shares) if shares else None
