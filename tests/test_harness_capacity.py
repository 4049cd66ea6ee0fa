"""The search for capacity finds it within its precision, whatever chance does to single trials."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from loadtest.harness.capacity import CONFIRMATIONS, MAX_TRIALS, Search, Trial, rounded
from loadtest.harness.capacity_run import Found, capacity_report, search_capacity
from loadtest.harness.firing import Stop
from loadtest.harness.scenario import Closed, Constant, HttpGet, Scenario, Slo

SCENARIO = Scenario(
    name="t",
    load=Constant(rate_per_s=1, duration_s=1),
    target=(HttpGet(),),
    slo=(Slo(latency_ms={"p99": 100}),),
)


def trial(rate, verdict):
    return Trial(
        rate_per_s=rate,
        verdict=verdict,
        why=(),
        answered_per_s=rate,
        p50_ms=5.0,
        p99_ms=50.0,
        degraded_share=0.0,
        failed=0,
        lateness_ms_p99=0.1,
    )


def searched(search, verdict_at):
    while (rate := search.next_rate()) is not None:
        tried = rounded(rate)
        search = replace(search, trials=(*search.trials, trial(tried, verdict_at(tried, search))))
    return search


@given(st.floats(1.0, 4_000.0), st.sampled_from([1.0, 20.0, 300.0]))
def test_the_capacity_is_found_within_the_precision(capacity, first):
    search = searched(
        Search(first, 5_000, 0.05), lambda rate, _: "held" if rate <= capacity else "broken"
    )
    held, broken = search.highest_held_per_s, search.lowest_broken_per_s
    if held is None:
        assert capacity < first / 16
        return
    assert held <= capacity
    assert broken is None or broken > capacity
    if broken is not None:
        assert broken / held <= 1.06
    assert len(search.trials) < MAX_TRIALS


def test_what_is_reported_has_held_more_than_once():
    search = searched(Search(20, 5_000, 0.05), lambda r, _: "held" if r <= 130 else "broken")
    best = search.highest_held_per_s
    assert sum(t.rate_per_s == best for t in search.trials) == CONFIRMATIONS


def test_one_bad_half_minute_is_not_the_capacity():
    def once_unlucky(rate, search):
        first_at_40 = rate == 40 and not any(t.rate_per_s == 40 for t in search.trials)
        return "broken" if first_at_40 or rate > 300 else "held"

    search = searched(Search(20, 5_000, 0.05), once_unlucky)
    assert search.highest_held_per_s > 280


def test_a_rate_that_does_not_hold_again_is_not_reported():
    def holds_once_at_40(rate, search):
        if rate == 40:
            return "held" if sum(t.rate_per_s == 40 for t in search.trials) == 0 else "broken"
        return "held" if rate < 40 else "broken"

    search = searched(Search(40, 5_000, 0.05), holds_once_at_40)
    assert search.highest_held_per_s < 40


def test_a_generator_that_fails_ends_the_search_as_invalid():
    search = searched(Search(20, 5_000, 0.05), lambda r, _: "held" if r <= 100 else "invalid")
    assert search.highest_held_per_s == 80
    assert search.invalid.rate_per_s == 160
    assert [trial.rate_per_s for trial in search.trials][-2:] == [160, 160]


def test_a_generator_that_is_late_once_does_not_end_the_search():
    def late_once_at_40(rate, search):
        late = rate == 40 and not any(t.rate_per_s == 40 for t in search.trials)
        return "invalid" if late else "held" if rate <= 100 else "broken"

    search = searched(Search(20, 5_000, 0.05), late_once_at_40)
    assert search.invalid is None
    assert 90 < search.highest_held_per_s <= 100


def test_no_rate_over_the_most_is_tried():
    search = searched(Search(20, 50, 0.05), lambda *_: "held")
    assert search.highest_held_per_s == 50
    assert search.lowest_broken_per_s is None


def test_no_rate_under_the_least_is_tried():
    search = searched(Search(20, 5_000, 0.05, least_per_s=2.4), lambda *_: "broken")
    assert search.lowest_broken_per_s == 2.5
    report = capacity_report(SCENARIO, Found(search, None), interrupted=False)
    assert report.exit_code == 1
    assert "not even 2.5" in report.markdown


def test_a_first_rate_without_enough_requests_in_a_trial_is_refused():
    with pytest.raises(ConfigurationError, match=r"4 s at 1 a second has less than 10 requests"):
        search_capacity(SCENARIO, Search(1, 2, 0.1), 4, Stop(), lambda *_: None)


def test_capacity_is_refused_for_loads_without_a_rate():
    closed = Scenario(
        name="t", load=Closed(clients=1, duration_s=1), target=(HttpGet(),), slo=(Slo(hung=0),)
    )
    with pytest.raises(ConfigurationError, match="open loops"):
        search_capacity(closed, Search(1, 2, 0.1), 1, Stop(), lambda *_: None)


@pytest.mark.parametrize(
    ("trials", "interrupted", "exit_code", "told"),
    [
        ((trial(20, "held"), trial(20, "held"), trial(21, "broken")), False, 0, "HELD: 20"),
        ((trial(20, "broken"), trial(20, "broken")), False, 1, "BROKEN: not even 20"),
        (
            (trial(20, "held"), trial(40, "invalid"), trial(40, "invalid")),
            False,
            2,
            "INVALID: at 40",
        ),
        ((trial(20, "held"),), True, 2, "INTERRUPTED: so far 20"),
        ((), True, 2, "INTERRUPTED: so far 0"),
    ],
)
def test_a_search_is_reported_with_its_verdict(trials, interrupted, exit_code, told):
    found = Found(Search(20, 5_000, 0.1, trials), None)
    report = capacity_report(SCENARIO, found, interrupted=interrupted)
    assert report.exit_code == exit_code
    assert told in report.markdown
    assert {"capacity.json", "summary.md", "report.html"} == report.files.keys()
