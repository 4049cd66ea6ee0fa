"""SLOs: what was promised, what was measured, and how much of the error budget that used. Pure.

A failed or hung request is slower than any limit, so a percentile over all requests cannot look
better because the slowest ones never came back.
"""

from collections.abc import Callable, Sequence
from math import ceil, inf

from ensembles.arrays import Float64Array
from loadtest.harness.histograms import PERCENTILES
from loadtest.harness.results import FaultResult, Figures, SloVerdict
from loadtest.harness.sampling import ProcessSeries
from loadtest.harness.scenario import Fault, Slo


def latency_verdict(
    target: str, percentile: str, limit_ms: float, answered_ms: Float64Array, requests: int
) -> SloVerdict:
    """Judge a percentile.

    Args:
        target: for the verdict's name.
        percentile: of `histograms.PERCENTILES`.
        limit_ms: what was promised.
        answered_ms: (answered,) ascending: the latencies of the requests that got an answer.
        requests: all of them, answered or not.
    """
    percent = PERCENTILES[percentile]
    rank = max(1, ceil(percent / 100 * requests - 1e-9))
    measured = float(answered_ms[rank - 1]) if 0 < rank <= len(answered_ms) else inf
    slow = requests - int((answered_ms <= limit_ms).sum())
    allowed = (1 - percent / 100) * requests
    return SloVerdict(
        what=f"{target} {percentile}",
        objective=f"≤ {limit_ms:g} ms",
        measured=measured if requests and measured < inf else None,
        unit="ms",
        held=bool(requests) and measured <= limit_ms,
        budget_used=_used(slow, allowed),
    )


def figure_verdicts(slo: Slo, figures: Figures) -> list[SloVerdict]:
    """Judge all but the latencies of one target, or of all together."""
    verdicts = []
    if slo.availability is not None:
        missed = figures.requests - figures.answered
        verdicts.append(
            _at_least(
                f"{figures.target} availability",
                slo.availability,
                _share(figures.answered, figures.requests),
                _used(missed, (1 - slo.availability) * figures.requests),
            )
        )
    if slo.degraded_share is not None:
        share = _share(figures.degraded, figures.answered)
        used = _used(figures.degraded, slo.degraded_share * figures.answered)
        name = f"{figures.target} degraded"
        verdicts.append(_at_most(name, slo.degraded_share * 100, _percent(share), "%", used))
    if slo.hung is not None:
        name = f"{figures.target} hung requests"
        verdicts.append(_at_most(name, slo.hung, float(figures.hung), "", None))
    if slo.recall is not None:
        verdicts.append(_at_least(f"{figures.target} recall", slo.recall, figures.recall, None))
    if slo.first_answer_s is not None:
        name = f"{figures.target} first answer"
        verdicts.append(_at_most(name, slo.first_answer_s, figures.first_answer_s, "s", None))
    return verdicts


def fault_verdicts(fault: Fault, result: FaultResult) -> list[SloVerdict]:
    """Judge what was promised of one fault."""
    name = f"{fault.kind} {fault.model or fault.part} at {fault.at_s:g} s"
    verdicts = []
    if fault.recover_s is not None:
        recovery = _at_most(f"{name}: recovery", fault.recover_s, result.recovery_s, "s", None)
        verdicts.append(recovery)
    if fault.answered_share is not None:
        share = _share(result.answered, result.requests)
        missed = result.requests - result.answered
        used = _used(missed, (1 - fault.answered_share) * result.requests)
        verdicts.append(_at_least(f"{name}: answered", fault.answered_share, share, used))
    if fault.hung is not None:
        hung = float(result.hung)
        verdicts.append(_at_most(f"{name}: hung requests", fault.hung, hung, "", None))
    return verdicts


def growth_verdicts(slo: Slo, processes: Sequence[ProcessSeries]) -> list[SloVerdict]:
    """Judge whether memory and descriptors stayed flat, part by part."""
    verdicts = []
    kinds: tuple[tuple[str, float | None, Callable[[ProcessSeries], Sequence[float]]], ...] = (
        ("memory growth", slo.memory_growth, lambda series: series.rss_mib),
        ("descriptor growth", slo.descriptor_growth, lambda series: series.descriptors),
    )
    for what, limit, values in kinds:
        if limit is None:
            continue
        if not processes:
            verdicts.append(_at_most(what, limit * 100, None, "%", None))
        for series in processes:
            grown = _percent(series.growth(values(series)))
            verdicts.append(_at_most(f"{series.name} {what}", limit * 100, grown, "%", None))
    return verdicts


def _at_most(
    what: str, limit: float, measured: float | None, unit: str, used: float | None
) -> SloVerdict:
    return SloVerdict(
        what=what,
        objective=f"≤ {limit:g} {unit}".rstrip(),
        measured=measured,
        unit=unit,
        held=measured is not None and measured <= limit,
        budget_used=used,
    )


def _at_least(what: str, limit_share: float, share: float | None, used: float | None) -> SloVerdict:
    """Judge a share; both are shown in percent."""
    return SloVerdict(
        what=what,
        objective=f"≥ {limit_share * 100:g} %",
        measured=_percent(share),
        unit="%",
        held=share is not None and share >= limit_share,
        budget_used=used,
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _used(violations: float, allowed: float) -> float | None:
    """Return violations as a share of those allowed; None where none is and there is one."""
    if allowed <= 0:
        return 0.0 if violations == 0 else None
    return violations / allowed
