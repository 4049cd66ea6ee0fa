"""Scenarios are decoded strictly; what cannot be run, or promises nothing, is refused in words."""

import pytest

from gateway.errors import ConfigurationError, NotFound
from loadtest.harness.materials import read_lines, read_recording
from loadtest.harness.plan import make_plan, share_of
from loadtest.harness.scenario import LATENESS_LIMIT_MS
from loadtest.harness.scenario_file import decode_scenario, packaged_scenarios, read_scenario

GOOD = """
name = "good"
seed = 3
[load]
shape = "constant"
rate_per_s = 20
duration_s = 5
warm_up_s = 1
[[target]]
kind = "search_text"
weight = 3
[[target]]
kind = "http_get"
path = "/health/live"
[[slo]]
latency_ms = { p99 = 100 }
"""


def decode(text):
    return decode_scenario(text.encode(), "test.toml")


def refused(text):
    with pytest.raises(ConfigurationError) as error:
        decode(text)
    return str(error.value)


def test_a_scenario_is_read_with_its_defaults():
    scenario = decode(GOOD)
    assert scenario.target[1].label == "http_get"
    assert scenario.target[0].timeout_s == 10.0
    assert scenario.lateness_limit_ms == LATENESS_LIMIT_MS


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("seed = 3", "sede = 3", "unknown key 'sede' at the top: did you mean seed?"),
        ("weight = 3", "wieght = 3", "'wieght' at `$.target[0]`: did you mean weight?"),
        ("latency_ms =", "latency =", "'latency' at `$.slo[0]`: did you mean latency_ms?"),
        ("rate_per_s = 20", "rate_per_s = 0", "> 0.0 - at `$.load.rate_per_s`, got 0"),
        ("rate_per_s = 20", "rate_per_s = -5", "got -5"),
        ("rate_per_s = 20", "rate_per_s = nan", "rate_per_s"),
        ("duration_s = 5", "duration_s = 1e9", "over the longest run"),
        ('shape = "constant"', 'shape = "constnat"', "there are constant, ramp, steps"),
        ('kind = "http_get"', 'kind = "ftp"', "there are search_text"),
        ('path = "/health/live"', 'path = "no slash"', "path"),
        ("p99 = 100", "p42 = 100", "p42"),
        ("latency_ms = { p99 = 100 }", 'target = "search_text"', "[[slo]] with a bound"),
        ("latency_ms = { p99 = 100 }", 'hung = 0\ntarget = "upload"', "targets are search_text"),
        ('kind = "http_get"\npath = "/health/live"', 'kind = "search_text"', "give each a name"),
        ("seed = 3", "seed = 3\ncold = true", "no warm-up"),
        ("seed = 3", "seed = [", "no TOML"),
        ('name = "good"', 'name = "../../etc"', "name"),
    ],
)  # fmt: skip
def test_a_wrong_scenario_is_refused_with_what_came_and_what_is_meant(before, after, expected):
    assert before in GOOD
    assert expected in refused(GOOD.replace(before, after))


def test_a_scenario_without_any_slo_is_refused():
    assert "what must hold?" in refused(GOOD.partition("[[slo]]")[0])


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ('kind = "kill"\npart = "triton"\nat_s = 9', "after the end"),
        ('kind = "stop"\npart = "milvus"\nat_s = 1', "needs a duration_s"),
        ('kind = "kill"\npart = "model"\nat_s = 1', "names its `model`"),
        ('kind = "kill"\npart = "network"\nat_s = 1', '"network"'),
        ('kind = "slow_network"\npart = "network"\nat_s = 1\ndelay_ms = 5', "needs a duration_s"),
    ],
)
def test_a_fault_that_cannot_happen_is_refused(fault, expected):
    assert expected in refused(f"{GOOD}\n[[fault]]\n{fault}\n")


@pytest.mark.parametrize("name", packaged_scenarios())
def test_every_packaged_scenario_is_one_and_is_called_like_its_file(name):
    scenario, _ = read_scenario(name)
    assert scenario.name == name
    assert scenario.summary


def test_all_promised_scenarios_are_there():
    wanted = "smoke slo-search slo-embed capacity soak chaos cold-start ingest-while-searching"
    assert set(wanted.split()) <= set(packaged_scenarios())


def test_a_name_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(NotFound, match="did you mean smoke"):
        read_scenario("smok")
    with pytest.raises(NotFound, match="no scenario file"):
        read_scenario("missing.toml")


# ---- what is fired ------------------------------------------------------------------------------


def test_a_plan_is_the_same_for_the_same_seed_and_another_for_another():
    scenario = decode(GOOD)
    one, same, other = (make_plan(scenario, seed, {}) for seed in (1, 1, 2))
    assert (one.times_s == same.times_s).all()
    assert one.texts[0] == same.texts[0]
    assert one.texts[0] != other.texts[0]


def test_warm_up_is_before_zero_and_weights_are_kept():
    text = GOOD.replace("rate_per_s = 20", "rate_per_s = 400")
    plan = make_plan(decode(text), 1, {})
    assert plan.times_s[0] < 0 <= plan.times_s[-1] < 5
    assert (plan.which == 0).mean() == pytest.approx(0.75, abs=0.05)


def test_unique_queries_come_once_each():
    plan = make_plan(decode(GOOD), 1, {})
    asked = [plan.texts[0][item] for item in plan.item[plan.which == 0]]
    assert len(set(asked)) == len(asked) > 0


def test_zipf_queries_repeat_the_popular_ones():
    queries = 'queries = { source = "zipf", vocabulary = 1000, exponent = 1.2 }'
    text = GOOD.replace("weight = 3", f"weight = 300\n{queries}").replace("20", "400")
    plan = make_plan(decode(text), 1, {})
    items = plan.item[plan.which == 0]
    assert (items == 0).mean() > (items == 99).mean()
    assert len(set(items)) < len(items)
    assert items.max() < 1000


def test_a_query_file_is_asked_line_by_line_and_again(tmp_path):
    (tmp_path / "q.txt").write_text("one\n\n  two \n")
    queries = 'queries = { source = "file", file = "q.txt" }'
    scenario = decode(GOOD.replace("weight = 3", f"weight = 3\n{queries}"))
    lines = read_lines(scenario, tmp_path)
    plan = make_plan(scenario, 1, lines)
    asked = [plan.texts[0][item] for item in plan.item[plan.which == 0]]
    assert asked[:4] == ["one", "two", "one", "two"]


@pytest.mark.parametrize(("content", "expected"), [(None, "cannot read"), (" \n", "no query")])
def test_a_query_file_that_is_missing_or_empty_is_refused(tmp_path, content, expected):
    if content is not None:
        (tmp_path / "q.txt").write_text(content)
    queries = 'queries = { source = "file", file = "q.txt" }'
    scenario = decode(GOOD.replace("weight = 3", f"weight = 3\n{queries}"))
    with pytest.raises(ConfigurationError, match=expected):
        read_lines(scenario, tmp_path)


REPLAY = GOOD.replace("rate_per_s = 20\nduration_s = 5\nwarm_up_s = 1", 'file = "log.jsonl"')
REPLAY = REPLAY.replace('"constant"', '"replay"').replace("[[target]]", "", 0)


def test_a_recording_is_replayed_with_its_times_and_texts(tmp_path):
    text = REPLAY.replace('[[target]]\nkind = "http_get"\npath = "/health/live"\n', "")
    scenario = decode(text.replace("[load]", "[load]\nwarm_up_s = 0"))
    lines = '{"at_s": 7.0, "query": "bread"}\n{"at_s": 7.5, "query": "knots"}\n'
    (tmp_path / "log.jsonl").write_text(lines)
    plan = make_plan(scenario, 1, {}, read_recording(scenario, tmp_path))
    assert list(plan.times_s) == [0.0, 0.5]
    assert [plan.texts[0][item] for item in plan.item] == ["bread", "knots"]
    assert plan.duration_s == 1.0


@pytest.mark.parametrize(
    ("content", "expected"),
    [("", "no request"), ('{"at": 1}', "expected lines like"), ("{", "expected lines like")],
)
def test_a_recording_that_is_none_is_refused(tmp_path, content, expected):
    (tmp_path / "log.jsonl").write_text(content)
    with pytest.raises(ConfigurationError, match=expected):
        read_recording(decode(REPLAY), tmp_path)


def test_the_shares_of_all_processes_are_the_plan():
    plan = make_plan(decode(GOOD), 1, {})
    times = sorted(t for process in range(3) for t in share_of(plan, process, 3)[0])
    assert times == list(plan.times_s)
