"""From what was recorded to a run's figures and verdict. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ensembles.arrays import Float64Array
from loadtest.harness.confidence import percentile_interval_ms
from loadtest.harness.faults import Struck
from loadtest.harness.histograms import curve_ms, histogram_of, percentiles_ms
from loadtest.harness.records import (
    STAGES,
    UPLOAD_STAGES,
    Outcome,
    Records,
    answered,
    measured,
)
from loadtest.harness.results import (
    FaultResult,
    Figures,
    SloVerdict,
    StageFigures,
)
from loadtest.harness.sampling import ProcessSeries
from loadtest.harness.scenario import Scenario, Slo, Upload
from loadtest.harness.series import Series, recovery_s, series_of
from loadtest.harness.slo import (
    fault_verdicts,
    figure_verdicts,
    growth_verdicts,
    latency_verdict,
)

ALL = "all"  # every target together
MS = 1_000


@dataclass(frozen=True)
class Recall:
    """What a target's answers under load held of what calm ones hold."""

    whole: float | None
    degraded: float | None
    samples: int


NO_RECALL = Recall(None, None, 0)


@dataclass(frozen=True)
class Measured:
    """The figures of a run."""

    figures: dict[str, Figures]  # by target, and ALL
    stages: tuple[StageFigures, ...]
    series: dict[str, Series]
    curves: dict[str, tuple[tuple[float, float], ...]]
    faults: tuple[FaultResult, ...]
    slo: tuple[SloVerdict, ...]


def analyse(
    scenario: Scenario,
    records: Records,
    duration_s: float,
    struck: Sequence[Struck],
    processes: Sequence[ProcessSeries],
    recall: Mapping[str, Recall],
) -> Measured:
    """Compute all figures of a run.

    Args:
        scenario: with its SLOs.
        records: all, warm-up and all.
        duration_s: of the measured part as far as it went.
        struck: the faults that were done.
        processes: what was sampled.
        recall: by target.
    """
    kept = measured(records)
    seconds = max(1, int(np.ceil(duration_s - 1e-9)))
    parts = {ALL: kept} | {
        target.label: kept[kept["target"] == index] for index, target in enumerate(scenario.target)
    }
    kinds = {target.label: str(target.__struct_config__.tag) for target in scenario.target}
    figures = {
        name: figures_of(
            name,
            kinds.get(name, ALL),
            part,
            duration_s,
            limit_ms(scenario, name),
            recall.get(name, NO_RECALL),
        )
        for name, part in parts.items()
    }
    series = {name: series_of(part, seconds) for name, part in parts.items()}
    curves = {
        name: tuple(curve_ms(histogram_of(answered(part)["latency_s"])))
        for name, part in parts.items()
    }
    faults = fault_results(struck, kept, series[ALL], duration_s)
    verdicts = [
        *_slo_verdicts(scenario, parts, figures, processes),
        *(v for s, r in zip(struck, faults, strict=True) for v in fault_verdicts(s.fault, r)),
    ]
    stages = tuple(
        stage
        for target in scenario.target
        for stage in stages_of(
            target.label,
            UPLOAD_STAGES if isinstance(target, Upload) else STAGES,
            parts[target.label],
        )
    )
    return Measured(figures, stages, series, curves, faults, tuple(verdicts))


def _slo_verdicts(
    scenario: Scenario,
    parts: Mapping[str, Records],
    figures: Mapping[str, Figures],
    processes: Sequence[ProcessSeries],
) -> list[SloVerdict]:
    verdicts = []
    for slo in scenario.slo:
        name = slo.target or ALL
        times_ms = sorted_ms(parts[name])
        verdicts += [
            latency_verdict(name, percentile, limit, times_ms, len(parts[name]))
            for percentile, limit in slo.latency_ms.items()
        ]
        verdicts += figure_verdicts(slo, figures[name])
        verdicts += growth_verdicts(slo, processes)
    return verdicts


def sorted_ms(records: Records) -> Float64Array:
    """Return the latencies of the answered requests in milliseconds, ascending."""
    return np.sort(answered(records)["latency_s"]).astype(np.float64) * MS


def limit_ms(scenario: Scenario, target: str) -> float | None:
    """Return the latency within which an answer is good: the p99 promised, or the largest one."""
    promised = [slo for slo in scenario.slo if (slo.target or ALL) == target and slo.latency_ms]
    promised = promised or [slo for slo in scenario.slo if slo.latency_ms]
    limits = [_p99_or_largest(slo) for slo in promised]
    return max(limits, default=None)


def _p99_or_largest(slo: Slo) -> float:
    return slo.latency_ms.get("p99", max(slo.latency_ms.values()))


def figures_of(
    name: str,
    kind: str,
    records: Records,
    duration_s: float,
    good_ms: float | None,
    recall: Recall,
) -> Figures:
    """Return the figures of one target's measured records."""
    counts = np.bincount(records["outcome"], minlength=len(Outcome))
    got = answered(records)
    histogram = histogram_of(got["latency_s"])
    good = got if good_ms is None else got[got["latency_s"] * MS <= good_ms]
    ends_s = got["scheduled_s"] + got["latency_s"]
    return Figures(
        target=name,
        kind=kind,
        requests=len(records),
        ok=int(counts[Outcome.OK]),
        degraded=int(counts[Outcome.DEGRADED]),
        failed=int(counts[Outcome.FAILED]),
        hung=int(counts[Outcome.HUNG]),
        offered_per_s=len(records) / duration_s,
        answered_per_s=float((ends_s <= duration_s).sum()) / duration_s,
        goodput_per_s=len(good) / duration_s,
        latency_ms=percentiles_ms(histogram),
        p99_interval_ms=percentile_interval_ms(histogram, 99.0),
        first_answer_s=float(ends_s.min()) if len(got) else None,
        recall=recall.whole,
        recall_degraded=recall.degraded,
        recall_samples=recall.samples,
    )


def stages_of(target: str, names: Sequence[str], records: Records) -> list[StageFigures]:
    """Return the stages that a target's answers tell; empty where they tell none."""
    figures = []
    for index, stage in enumerate(names):
        told = records["stages_ms"][:, index]
        told = told[~np.isnan(told)].astype(np.float64)
        if told.size:
            times = percentiles_ms(histogram_of(told / MS))
            figures.append(StageFigures(target=target, stage=stage, latency_ms=times))
    return figures


def fault_results(
    struck: Sequence[Struck], records: Records, series: Series, duration_s: float
) -> tuple[FaultResult, ...]:
    """Say of each fault how long it was felt and how many requests it cost."""
    results = []
    well = series.well()
    for index, one in enumerate(struck):
        end_s = one.end_s if one.end_s is not None else duration_s
        next_s = struck[index + 1].at_s if index + 1 < len(struck) else duration_s
        recovery = recovery_s(well, end_s, next_s)
        # The cells are whole seconds, so the one in which the fault struck counts as a whole.
        until_s = next_s if recovery is None else max(end_s + recovery, one.at_s + 1)
        due = records["scheduled_s"]
        hit = records[(due >= np.floor(one.at_s)) & (due < until_s)]
        counts = np.bincount(hit["outcome"], minlength=len(Outcome))
        fault = one.fault
        results.append(
            FaultResult(
                what=f"{fault.kind} {fault.model or fault.part}: {one.what}",
                at_s=one.at_s,
                end_s=end_s,
                recovery_s=recovery,
                requests=len(hit),
                answered=int(counts[Outcome.OK] + counts[Outcome.DEGRADED]),
                degraded=int(counts[Outcome.DEGRADED]),
                failed=int(counts[Outcome.FAILED]),
                hung=int(counts[Outcome.HUNG]),
            )
        )
    return tuple(results)
