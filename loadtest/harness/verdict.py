"""Whether a run held, broke or proves nothing, and what its reader must know. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np

from loadtest.harness.analysis import ALL
from loadtest.harness.histograms import histogram_of, percentiles_ms
from loadtest.harness.records import Records, measured
from loadtest.harness.results import Figures, Generator, Machine, SloVerdict, Verdict
from loadtest.harness.scenario import Closed, EmbedQuery, Scenario, SearchText

ENOUGH_FOR_P99 = 10_000  # requests
CACHED_SHARE = 0.05  # of unique queries; more is worth a note


def generator_of(
    scenario: Scenario, records: Records, cpu_s: float, wall_s: float, most_in_flight: int
) -> Generator:
    """Return how late and how busy the generator was."""
    late = measured(records)["lateness_s"].astype(np.float64)
    return Generator(
        processes=scenario.processes,
        requests=len(late),
        lateness_ms=percentiles_ms(histogram_of(late)),
        lateness_limit_ms=scenario.lateness_limit_ms,
        cores_used=cpu_s / wall_s if wall_s > 0 else 0.0,
        most_in_flight=most_in_flight,
    )


def judge(
    scenario: Scenario,
    generator: Generator,
    verdicts: Sequence[SloVerdict],
    trouble: Sequence[str],
) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict of a run, and why it is not `held`.

    Args:
        scenario: what was run.
        generator: how well it did.
        verdicts: of the SLOs.
        trouble: what makes the run invalid beyond lateness.
    """
    reasons = list(trouble)
    late_ms = generator.lateness_ms.get("p99", 0.0)
    if not isinstance(scenario.load, Closed) and late_ms > generator.lateness_limit_ms:
        reasons.append(
            f"the generator was late: p99 {late_ms:.1f} ms, limit {generator.lateness_limit_ms:g} "
            "ms; use a quieter or another machine, or more processes"
        )
    if generator.requests == 0:
        reasons.append("nothing was measured")
    if reasons:
        return "invalid", tuple(reasons)
    broken = tuple(v.what for v in verdicts if not v.held)
    return ("broken", broken) if broken else ("held", ())


def notes_of(
    scenario: Scenario,
    figures: Mapping[str, Figures],
    cache_hit_ratio: float | None,
    machine: Machine,
) -> tuple[str, ...]:
    """Return what a reader must know to believe the figures rightly."""
    notes = []
    if isinstance(scenario.load, Closed):
        notes.append(
            "Closed loop: clients wait for their answers, so slow ones are asked less often and "
            "these latencies say nothing of users. Read the throughput only."
        )
    wants_p99 = any("p99" in slo.latency_ms for slo in scenario.slo)
    if wants_p99 and figures[ALL].requests < ENOUGH_FOR_P99:
        notes.append(
            f"{figures[ALL].requests} requests: a p99 wants {ENOUGH_FOR_P99}; read it with its "
            "interval."
        )
    unique = any(
        isinstance(target, SearchText | EmbedQuery) and target.queries.source == "unique"
        for target in scenario.target
    )
    if unique and cache_hit_ratio is not None and cache_hit_ratio > CACHED_SHARE:
        notes.append(
            f"The queries were to be unique, but {cache_hit_ratio:.0%} of their embeddings came "
            "from the gateway's cache: the same seed was run before, or others search too."
        )
    if machine.load_1m > machine.cores / 2:
        notes.append(
            f"The machine was busy before the run: load {machine.load_1m} on {machine.cores} cores."
        )
    return tuple(notes)
