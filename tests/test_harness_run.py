"""A whole run against a small server: result, reports, exit codes, a full disk, Ctrl-C."""

import os
import re
import resource
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.errors import ConfigurationError
from loadtest.harness.compare import compare_runs, comparison_table
from loadtest.harness.firing import Stop
from loadtest.harness.place import Place, find_place
from loadtest.harness.report.charts import knee_points, run_charts
from loadtest.harness.report.html import run_html
from loadtest.harness.report.markdown import run_markdown
from loadtest.harness.results import read_histograms, read_result
from loadtest.harness.run import run_scenario
from loadtest.harness.scenario_file import decode_scenario
from loadtest.harness.series import Series
from loadtest.harness.write import write_run
from tests.harness_servers import found, free_address, http_server, web_page
from tests.waiting import until

PIXSERVE = Path(sys.executable).with_name("pixserve")
SCENARIO = """
name = "small"
summary = "<script>alert('hostile')</script>"
lateness_limit_ms = 10000 # these tests may not depend on how busy the machine is
[load]
shape = "steps"
rates_per_s = [20, 40, 60]
step_s = 1
warm_up_s = 0.5
[[target]]
kind = "search_text"
[[slo]]
target = "search_text"
latency_ms = { p99 = 60000 }
availability = 0.99
"""


@pytest.fixture(scope="module")
def finished():
    scenario = decode_scenario(SCENARIO.encode(), "small.toml")
    with http_server(found) as url:
        return run_scenario(scenario, Path.cwd(), Place(url), seed=4)


@pytest.fixture
def scenario_file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO)
    return path


def run_command(*arguments):
    return CliRunner().invoke(app, ["loadtest", *map(str, arguments)])


# ---- the result ---------------------------------------------------------------------------------


def test_a_run_tells_all_that_is_needed_to_repeat_and_believe_it(finished):
    result = finished.result
    assert (result.verdict, result.exit_code, result.seed) == ("held", 0, 4)
    (_, figures) = result.targets
    assert figures.requests == figures.ok == sum(result.series["all"].offered)
    assert result.machine.packages["aiohttp"]
    assert result.machine.cores >= 1
    assert result.model_version == "mini-1"
    assert {stage.stage for stage in result.stages} >= {"embed", "legs", "total"}
    assert result.generator.requests == figures.requests
    assert {p.name for p in result.processes} == {"generator-0"}


def test_a_result_is_written_and_read_back_whole(finished, tmp_path):
    assert write_run(tmp_path / "out", finished) == ""
    assert read_result(tmp_path / "out") == finished.result
    intervals = read_histograms(tmp_path / "out")["search_text"]
    counted = sum(interval.get_total_count() for interval in intervals)
    assert counted == finished.result.targets[1].ok


@pytest.mark.parametrize(("content", "expected"), [(None, "no result"), (b"{}", "this version")])
def test_a_folder_without_a_result_is_refused(tmp_path, content, expected):
    if content is not None:
        (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match=expected):
        read_result(tmp_path)


# ---- reports ------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page loads and holds."""

    def __init__(self):
        super().__init__()
        self.tags, self.loads = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_page_loads_nothing_runs_nothing_and_escapes_what_it_is_told(finished):
    page = Page()
    html = run_html(finished.result)
    page.feed(html)
    assert "script" not in page.tags
    assert page.loads == []
    assert "url(" not in html
    assert "@import" not in html
    assert "&lt;script&gt;" in html
    assert {"svg", "table", "figcaption"} <= page.tags


def test_every_chart_is_well_formed_and_stays_inside_its_frame(finished):
    charts = run_charts(finished.result)
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", "".join(charts))
    assert any("Latency over time" in title for title in titles)
    assert any("knee" in title for title in titles)
    for figure in re.findall(r"<figure>.*?</figure>", "".join(charts)):
        root = ET.fromstring(figure)
        svg = root.findall("svg")[-1]
        width, height = map(float, svg.attrib["viewBox"].split()[2:])
        for path in svg.iter("path"):
            numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", path.attrib["d"])]
            assert all(-40 <= x <= width + 40 for x in numbers[0::2])
            assert all(-40 <= y <= height + 40 for y in numbers[1::2])


def test_the_summary_has_the_verdict_and_the_conditions(finished):
    text = run_markdown(finished.result)
    assert "HELD" in text
    assert "| search_text p99 | ≤ 60000 ms |" in text
    assert "seed 4" in text
    assert "generator's lateness" in text


def test_the_knee_is_where_answers_leave_the_offered_rate():
    nothing = (0,) * 6
    series = Series(
        offered=(10, 10, 20, 20, 40, 40),
        ok=(10, 10, 20, 20, 25, 25),
        degraded=nothing,
        failed=nothing,
        hung=nothing,
        completed=(10, 10, 20, 20, 30, 20),
        p50_ms=(1.0,) * 6,
        p99_ms=(5.0, 5.0, 6.0, 6.0, 90.0, 90.0),
    )
    assert knee_points((10, 10, 20, 20, 40, 40), series) == [
        (10, 10, 10, 5.0),
        (20, 20, 20, 6.0),
        (40, 25, 25, 90.0),
    ]
    assert knee_points((10,) * 6, series) == []


# ---- comparing ----------------------------------------------------------------------------------


def test_a_run_compared_with_itself_has_no_difference(finished):
    histograms = {name: [h for _, h in each] for name, each in finished.histograms.items()}
    found = compare_runs(finished.result, finished.result, histograms, histograms)
    assert {d.finding for d in found.differences} <= {"no difference", "cannot say"}
    assert (found.exit_code, found.warnings) == (0, ())
    assert comparison_table(found).rows


def test_more_failures_are_worse_and_an_invalid_run_cannot_be_compared(finished):
    good = finished.result
    bad_figures = [
        msgspec.structs.replace(f, ok=f.ok // 2, failed=f.ok - f.ok // 2) for f in good.targets
    ]
    bad = msgspec.structs.replace(good, targets=tuple(bad_figures))
    found = compare_runs(good, bad, {}, {})
    assert [d.what for d in found.differences if d.finding == "worse"] == ["search_text answered"]
    assert found.exit_code == 1
    assert compare_runs(bad, good, {}, {}).exit_code == 0
    invalid = msgspec.structs.replace(good, verdict="invalid")
    assert compare_runs(good, invalid, {}, {}).exit_code == 2


# ---- the commands -------------------------------------------------------------------------------


def test_a_run_that_holds_exits_0_and_can_be_reported_and_compared_again(scenario_file, tmp_path):
    with http_server(found) as url:
        done = run_command("run", scenario_file, "--url", url, "--out", tmp_path / "a", "--seed", 1)
    assert done.exit_code == 0, done.output
    assert "HELD" in done.output
    (tmp_path / "a" / "report.html").unlink()
    assert run_command("report", tmp_path / "a").exit_code == 0
    assert (tmp_path / "a" / "report.html").stat().st_size > 10_000
    assert run_command("compare", tmp_path / "a", tmp_path / "a").exit_code == 0


def test_a_target_that_refuses_breaks_the_slo_and_exits_1(scenario_file, tmp_path):
    done = run_command("run", scenario_file, "--url", free_address(), "--out", tmp_path / "a")
    assert done.exit_code == 1
    assert "connection refused" in done.output


def test_a_target_that_is_a_web_site_breaks_the_slo_and_exits_1(scenario_file, tmp_path):
    with http_server(web_page) as url:
        done = run_command("run", scenario_file, "--url", url, "--out", tmp_path / "a")
    assert done.exit_code == 1
    assert "no search reply (text/html)" in done.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "smok", "--url", "http://127.0.0.1:1"), "did you mean smoke"),
        (("run", "smoke", "--url", "nonsense"), "no URL like"),
        (("run", "smoke", "--data-dir", "/nonexistent/data"), "no stack is ready"),
        (("run", "chaos", "--url", "http://127.0.0.1:1"), "local stack"),
        (("run", "cold-start", "--url", "http://127.0.0.1:1"), "cold start"),
        (("find-capacity", "chaos", "--url", "http://127.0.0.1:1"), "without faults"),
        (("report", "/nonexistent"), "no result"),
        (("compare", "/nonexistent", "/nonexistent"), "no result"),
    ],
)
def test_what_cannot_be_run_exits_2_with_one_line(arguments, expected):
    done = run_command(*arguments)
    assert done.exit_code == 2
    assert expected in done.output


def test_capacity_is_found_by_the_command(scenario_file, tmp_path):
    text = SCENARIO.replace("p99 = 60000", "p50 = 30000")
    scenario_file.write_text(text.replace("warm_up_s = 0.5", "warm_up_s = 0"))
    with http_server(found) as url:
        done = run_command(
            *("find-capacity", scenario_file, "--url", url, "--out", tmp_path / "c"),
            *("--start", "10", "--most", "20", "--trial", "3", "--precision", "1"),
        )
    assert done.exit_code == 0, done.output
    assert "HELD: 20 requests a second" in done.output
    assert (tmp_path / "c" / "report.html").is_file()


def start(scenario_file, url, out, limit_bytes=None):
    def limit():
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [PIXSERVE, "loadtest", "run", scenario_file, "--url", url, "--out", out]
    return subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_on_a_full_disk_the_results_are_printed_all_the_same(scenario_file, tmp_path):
    """A limit on the size of files does what a full disk does: each write fails."""
    with http_server(found) as url:
        process = start(scenario_file, url, tmp_path / "out", limit_bytes=0)
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "HELD" in output
    assert "| search_text p99 |" in output
    assert "could not be written" in errors


def test_ctrl_c_ends_with_a_report_of_what_there_is_and_exits_2(scenario_file, tmp_path):
    scenario_file.write_text(SCENARIO.replace("step_s = 1", "step_s = 600"))
    asked = []

    def respond(path):
        asked.append(path)
        return found(path)

    with http_server(respond) as url:
        process = start(scenario_file, url, tmp_path / "out")
        until(lambda: len([path for path in asked if "search" in path]) > 30, 60)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "INVALID" in output
    assert "interrupted" in output
    result = read_result(tmp_path / "out")
    assert result.verdict == "invalid"
    assert 0 < result.targets[0].ok < 1_000
    assert result.duration_s < 600
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_run_that_is_stopped_before_it_began_measures_nothing():
    scenario = decode_scenario(SCENARIO.encode(), "small.toml")
    with http_server(found) as url:
        done = run_scenario(scenario, Path.cwd(), Place(url), stop=Stop(asked=True))
    assert done.result.verdict == "invalid"
    assert "nothing was measured" in done.result.why


def test_a_place_needs_a_url_or_a_stack_that_runs(tmp_path):
    with pytest.raises(ConfigurationError, match="pixserve up"):
        find_place("", "", tmp_path)
    assert find_place("http://127.0.0.1:1/", "", tmp_path) == Place("http://127.0.0.1:1")
