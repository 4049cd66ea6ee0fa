"""From records to verdicts: nothing that failed, hung or was late can make a run look better."""

import numpy as np
import pytest

from loadtest.harness.analysis import (
    ALL,
    NO_RECALL,
    analyse,
    fault_results,
    figures_of,
)
from loadtest.harness.faults import Struck
from loadtest.harness.plan import make_plan
from loadtest.harness.records import RECORD, Outcome, measured
from loadtest.harness.sampling import ProcessSeries
from loadtest.harness.scenario import (
    Closed,
    Constant,
    Fault,
    HttpGet,
    Scenario,
    SearchText,
    Slo,
)
from loadtest.harness.series import series_of
from loadtest.harness.slo import (
    fault_verdicts,
    figure_verdicts,
    growth_verdicts,
    latency_verdict,
)
from loadtest.harness.verdict import generator_of, judge
from loadtest.harness.worker.share import NO_STAGES

OK, DEGRADED, FAILED, HUNG = Outcome


def records(due, latency, outcome=OK, lateness=0.0, target=0):
    made = np.zeros(len(due), dtype=RECORD)
    made["scheduled_s"], made["latency_s"] = due, latency
    made["outcome"], made["lateness_s"], made["target"] = outcome, lateness, target
    made["stages_ms"] = NO_STAGES
    return made


def scenario(*slo, load=None, target=None, **changes):
    load = load or Constant(rate_per_s=100, duration_s=20, warm_up_s=2)
    return Scenario(name="t", load=load, target=target or (HttpGet(),), slo=slo, **changes)


# ---- the method, on a simulated clock -----------------------------------------------------------


def served_in_order(due, service_s, stall_from_s, stall_s):
    """When one server answers: it serves one request at a time, and stands still for a while."""
    free_s, ends = 0.0, np.empty(len(due))
    for number, start_s in enumerate(due):
        begin_s = max(start_s, free_s)
        if stall_from_s <= begin_s < stall_from_s + stall_s:
            begin_s = stall_from_s + stall_s
        ends[number] = free_s = begin_s + service_s
    return ends


def test_a_stall_is_felt_by_all_who_came_during_it_and_the_report_is_within_2_percent():
    plan = make_plan(scenario(Slo(hung=0)), 1, {})
    due = plan.times_s[plan.times_s >= 0]
    ends = served_in_order(due, 0.002, stall_from_s=8.0, stall_s=2.0)
    figures = figures_of("t", "t", records(due, ends - due), 20, None, NO_RECALL)
    for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9), ("max", 100)):
        truth_ms = np.percentile(ends - due, percent, method="inverted_cdf") * 1_000
        assert figures.latency_ms[name] == pytest.approx(truth_ms, rel=0.02)
    assert figures.latency_ms["p99"] > 1_800


def test_a_closed_loop_of_one_client_would_have_seen_one_slow_request():
    """The same server and stall, asked by a client that waits: its p99 hides the two seconds."""
    now_s, times = 0.0, []
    while now_s < 20:
        end_s = served_in_order([now_s], 0.002, stall_from_s=8.0, stall_s=2.0)[0]
        times.append(end_s - now_s)
        now_s = end_s + 0.008
    assert sum(t > 0.1 for t in times) == 1
    figures = figures_of("t", "t", records(np.arange(len(times)), times), 20, None, NO_RECALL)
    assert figures.latency_ms["p99"] < 3


# ---- SLOs ---------------------------------------------------------------------------------------


def test_requests_without_an_answer_are_slower_than_any_limit():
    answered = np.full(98, 10.0)
    verdict = latency_verdict("t", "p99", 100, answered, requests=100)
    assert not verdict.held
    assert verdict.measured is None
    assert verdict.budget_used == pytest.approx(2.0)
    assert latency_verdict("t", "p95", 100, answered, requests=100).held


def test_a_percentile_at_its_limit_holds():
    times = np.sort(np.linspace(1, 100, 100))
    verdict = latency_verdict("t", "p99", 99.0, times, requests=100)
    assert verdict.held
    assert verdict.measured == 99.0
    assert verdict.budget_used == pytest.approx(1.0)
    assert not latency_verdict("t", "p99", 98.9, times, requests=100).held


def test_a_run_without_requests_holds_nothing():
    assert not latency_verdict("t", "p50", 100, np.empty(0), requests=0).held
    figures = figures_of("t", "t", records([], []), 20, None, NO_RECALL)
    verdicts = figure_verdicts(Slo(availability=0.9, recall=0.9, first_answer_s=1), figures)
    assert [v.held for v in verdicts] == [False, False, False]


def test_a_degraded_answer_is_available_and_uses_up_its_own_budget():
    outcomes = [OK] * 90 + [DEGRADED] * 5 + [FAILED] * 3 + [HUNG] * 2
    figures = figures_of("t", "t", records(np.arange(100), 0.01, outcomes), 100, None, NO_RECALL)
    slo = Slo(availability=0.95, degraded_share=0.05, hung=1)
    availability, degraded, hung = figure_verdicts(slo, figures)
    assert (availability.held, availability.measured) == (True, 95.0)
    assert availability.budget_used == pytest.approx(1.0)
    assert (degraded.held, degraded.measured) == (False, pytest.approx(100 * 5 / 95))
    assert (hung.held, hung.measured) == (False, 2)


def test_an_slo_of_one_target_looks_at_that_one_alone():
    both = (HttpGet(name="fast"), HttpGet(name="slow"))
    slo = Slo(target="fast", latency_ms={"p99": 50})
    table = np.concatenate(
        [records(np.arange(100) / 10, 0.01, target=0), records(np.arange(100) / 10, 0.5, target=1)]
    )
    found = analyse(scenario(slo, target=both), table, 10, [], [], {})
    assert [v.what for v in found.slo] == ["fast p99"]
    assert found.slo[0].held
    assert found.figures["slow"].latency_ms["p50"] == pytest.approx(500, rel=1e-3)
    assert found.figures[ALL].requests == 200


def test_warm_up_is_left_out():
    table = np.concatenate([records([-1.0] * 50, 9.0, FAILED), records(np.arange(10), 0.01)])
    assert len(measured(table)) == 10
    found = analyse(scenario(Slo(availability=1.0)), table, 10, [], [], {})
    assert found.slo[0].held


def test_goodput_is_what_came_within_the_promised_p99():
    table = records(np.arange(100) / 10, [0.05] * 60 + [0.2] * 40)
    found = analyse(scenario(Slo(latency_ms={"p50": 10, "p99": 100})), table, 10, [], [], {})
    assert found.figures[ALL].goodput_per_s == pytest.approx(6.0)
    assert found.figures[ALL].offered_per_s == pytest.approx(10.0)


def test_the_stages_of_replies_are_summarised():
    table = records(np.arange(10), 0.01)
    table["stages_ms"] = (2.0, 1.0, 0.5, 0.25, 3.75)
    slo = Slo(hung=0)
    found = analyse(scenario(slo, target=(SearchText(),)), table, 10, [], [], {})
    told = {stage.stage: stage.latency_ms["p50"] for stage in found.stages}
    assert told["embed"] == pytest.approx(2.0)
    assert told["total"] == pytest.approx(3.75, rel=1e-3)


# ---- validity -----------------------------------------------------------------------------------


def test_a_late_generator_makes_a_run_invalid_whatever_it_measured():
    table = records(np.arange(100) / 10, 0.01, lateness=0.02)
    run = scenario(Slo(hung=0))
    generator = generator_of(run, table, 1.0, 10.0, 1)
    verdict, why = judge(run, generator, [], [])
    assert verdict == "invalid"
    assert "p99 20.0 ms, limit 5 ms" in why[0]
    allowed = scenario(Slo(hung=0), lateness_limit_ms=25)
    assert judge(allowed, generator_of(allowed, table, 1.0, 10.0, 1), [], [])[0] == "held"


def test_a_closed_loop_has_no_schedule_to_be_late_for():
    run = scenario(Slo(hung=0), load=Closed(clients=1, duration_s=10))
    table = records(np.arange(100) / 10, 0.01, lateness=0.5)
    assert judge(run, generator_of(run, table, 1.0, 10.0, 1), [], [])[0] == "held"


def test_trouble_comes_before_broken_promises_and_an_empty_run_is_invalid():
    run = scenario(Slo(hung=0))
    generator = generator_of(run, records([1.0], 0.01), 1.0, 10.0, 1)
    broken = [latency_verdict("t", "p50", 1, np.array([5.0]), 1)]
    assert judge(run, generator, broken, []) == ("broken", ("t p50",))
    assert judge(run, generator, broken, ["interrupted"])[0] == "invalid"
    nothing = generator_of(run, records([], []), 1.0, 10.0, 1)
    assert judge(run, nothing, [], []) == ("invalid", ("nothing was measured",))


# ---- faults -------------------------------------------------------------------------------------


def test_a_fault_costs_what_was_due_from_it_until_full_quality():
    due = np.arange(0, 30, 0.1)
    outcome = np.full(len(due), OK)
    outcome[(due >= 10) & (due < 12)] = FAILED
    outcome[(due >= 12) & (due < 15)] = DEGRADED
    table = records(due, 0.01, outcome)
    fault = Fault(kind="kill", part="triton", at_s=10, recover_s=4, answered_share=0.99, hung=0)
    struck = [Struck(fault, 10.0, 10.0, "tritonserver (1)")]
    (result,) = fault_results(struck, table, series_of(table, 30), 30)
    assert result.recovery_s == pytest.approx(5.0)
    assert (result.requests, result.failed, result.degraded) == (50, 20, 30)
    recovery, answered, hung = fault_verdicts(fault, result)
    assert (recovery.held, recovery.measured) == (False, 5.0)
    assert (answered.held, answered.measured) == (False, 60.0)
    assert hung.held


def test_a_fault_that_nobody_felt_recovered_at_once():
    due = np.arange(0, 30, 0.1)
    table = records(due, 0.01)
    fault = Fault(kind="kill", part="worker", at_s=10, recover_s=1)
    (result,) = fault_results([Struck(fault, 10.0, 10.0)], table, series_of(table, 30), 30)
    assert result.recovery_s == 0.0
    assert result.requests == 10
    assert fault_verdicts(fault, result)[0].held


def test_no_recovery_in_the_run_breaks_the_promise_of_one():
    due = np.arange(0, 20, 0.1)
    table = records(due, 0.01, np.where(due < 10, OK, FAILED))
    fault = Fault(kind="kill", part="triton", at_s=10, recover_s=60)
    (result,) = fault_results([Struck(fault, 10.0, 10.0)], table, series_of(table, 20), 20)
    assert result.recovery_s is None
    assert not fault_verdicts(fault, result)[0].held


# ---- growth -------------------------------------------------------------------------------------


def process(rss, seconds=400):
    at = tuple(float(s) for s in range(seconds))
    flat = (10,) * seconds
    values = tuple(rss(s) for s in at)
    return ProcessSeries(
        name="gateway", at_s=at, cpu_percent=values, rss_mib=values, descriptors=flat, threads=flat
    )


def test_memory_that_settles_in_three_minutes_is_flat_and_a_leak_is_not():
    slo = Slo(memory_growth=0.05, descriptor_growth=0.0)
    settled = growth_verdicts(slo, [process(lambda s: 100 + min(s, 170))])
    assert [v.held for v in settled] == [True, True]
    leaking = growth_verdicts(slo, [process(lambda s: 100 + s)])
    assert [v.held for v in leaking] == [False, True]


def test_a_run_too_short_for_growth_does_not_hold_it():
    (verdict,) = growth_verdicts(Slo(memory_growth=0.05), [process(lambda _: 100, seconds=100)])
    assert (verdict.held, verdict.measured) == (False, None)
    assert not growth_verdicts(Slo(memory_growth=0.05), [])[0].held
