"""The generator against real sockets: it fires on schedule, counts everything, and never hangs."""

import asyncio
import importlib.util
import os
import subprocess
import sys
import threading
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import uvloop

from gateway.errors import ConfigurationError, Unavailable
from loadtest.harness.distributed import Cluster, Station
from loadtest.harness.fleet import Fleet
from loadtest.harness.plan import make_plan, share_of
from loadtest.harness.records import Outcome
from loadtest.harness.scenario import (
    Closed,
    Constant,
    EmbedQuery,
    HttpGet,
    Scenario,
    SearchImage,
    SearchText,
    Slo,
)
from loadtest.harness.verify_server import ServerPlan, running_server
from loadtest.harness.worker.fire import listen
from loadtest.harness.worker.http import HttpClient, NoReply, Request, check_url
from loadtest.harness.worker.share import Batch, Done, Share
from tests.harness_servers import (
    babbles,
    found,
    free_address,
    http_server,
    raw_server,
    resets,
    says_nothing,
    searched,
    web_page,
)

FAST = Constant(rate_per_s=100, duration_s=1, warm_up_s=0, arrivals="even")


def fire(url, target, load=FAST, processes=1, items=None, triton="", stop_after=None):
    """Run a load on one target; returns what was heard, the plan and the start."""
    scenario = Scenario(name="t", load=load, target=(target,), slo=(Slo(hung=0),))
    plan = make_plan(scenario, 1, {})
    closed = load if isinstance(load, Closed) else None
    shares = [
        Share(
            number,
            scenario.target,
            [items or plan.texts.get(0, [""])],
            *share_of(plan, number, processes),
            url=url,
            triton=triton,
            run_id="t",
            clients=closed.clients if closed else 0,
            duration_s=closed.duration_s if closed else 0.0,
        )
        for number in range(processes)
    ]
    with Fleet(shares) as fleet:
        start_s = fleet.go(load.warm_up_s)
        while fleet.listen(0.1):
            if stop_after is not None and len(fleet.heard.records) >= stop_after:
                fleet.stop()
                stop_after = None
    assert fleet.heard.broken == []
    return fleet.heard, plan, start_s


def outcomes(heard):
    counts = np.bincount(heard.records["outcome"], minlength=len(Outcome))
    return {
        outcome.name: int(count) for outcome, count in zip(Outcome, counts, strict=True) if count
    }


def test_every_request_of_a_plan_is_sent_once_by_some_process():
    with running_server(ServerPlan()) as server:
        heard, plan, _ = fire(server.url, HttpGet(), processes=2)
    records = np.sort(heard.records, order="scheduled_s")
    assert outcomes(heard) == {"OK": 100}
    assert records["scheduled_s"] == pytest.approx(plan.times_s)
    assert set(records["process"]) == {0, 1}
    assert (records["lateness_s"] >= 0).all()
    assert (records["latency_s"] >= records["lateness_s"]).all()


def test_latency_counts_from_the_scheduled_start_while_the_server_stands_still():
    """By the server's own log: none who came during the stall is reported faster than true."""
    count = int(FAST.rate_per_s)
    stall = ServerPlan(np.zeros(count), stall_after=count // 2, stall_s=0.7)
    with running_server(stall) as server:
        items = [f"/{number}" for number in range(count)]
        heard, plan, start_s = fire(server.url, HttpGet(), items=items)
        truth = server.answered_at_s() - start_s - plan.times_s
    records = np.sort(heard.records, order="scheduled_s")
    assert outcomes(heard) == {"OK": count}
    assert (records["latency_s"] >= truth - 1e-6).all()
    # Those of the 0.5 s after the stall began waited for its end, each as long as was left of it.
    during = records[count // 2 + 1 :]
    assert (during["latency_s"] >= 0.7 - (during["scheduled_s"] - 0.5) - 0.05).all()


def test_a_closed_loop_waits_for_its_answers():
    delays = np.full(1_000, 0.1)
    load = Closed(clients=3, duration_s=1.0, warm_up_s=0)
    with running_server(ServerPlan(delays_s=delays)) as server:
        heard, *_ = fire(server.url, HttpGet(), load, items=["/1"])
    records = heard.records
    assert 3 <= len(records) <= 3 * 10
    due, ends = records["scheduled_s"], records["scheduled_s"] + records["latency_s"]
    in_flight = [(int(((due <= t) & (ends > t)).sum())) for t in due]
    assert max(in_flight) <= 3


def test_a_closed_loop_of_several_processes_shares_its_clients():
    with running_server(ServerPlan()) as server:
        load = Closed(clients=2, duration_s=0.3, warm_up_s=0)
        heard, *_ = fire(server.url, HttpGet(), load, processes=2)
    assert outcomes(heard).keys() == {"OK"}


# ---- targets that misbehave ---------------------------------------------------------------------

FEW = Constant(rate_per_s=20, duration_s=0.5, warm_up_s=0, arrivals="even")


def test_a_refused_connection_is_a_failure_with_its_reason():
    heard, *_ = fire(free_address(), SearchText(), FEW)
    assert outcomes(heard) == {"FAILED": 10}
    assert heard.errors == {"connection refused": 10}


@pytest.mark.parametrize(
    ("serve", "reason"),
    [(resets, "connection reset"), (babbles, "the reply is not HTTP")],
)
def test_a_broken_connection_is_a_failure_with_its_reason(serve, reason):
    with raw_server(serve) as url:
        heard, *_ = fire(url, SearchText(), FEW)
    assert outcomes(heard) == {"FAILED": 10}
    assert heard.errors == {reason: 10}


def test_a_web_page_is_no_answer_to_a_search():
    with http_server(web_page) as url:
        heard, *_ = fire(url, SearchText(), FEW)
    assert heard.errors == {"200, but no search reply (text/html)": 10}


def test_a_refusal_is_named_by_its_kind_and_part():
    body = b'{"error":"unavailable","message":"no","request_id":"r","part":"milvus"}'
    with http_server(lambda _: (503, "application/json", body)) as url:
        heard, *_ = fire(url, SearchText(), FEW)
    assert heard.errors == {"503 unavailable milvus": 10}


def test_an_error_that_is_not_pixserves_is_named_by_its_status():
    with http_server(lambda _: (502, "text/html", b"Bad Gateway")) as url:
        heard, *_ = fire(url, SearchText(), FEW)
    assert heard.errors == {"502 (text/html)": 10}


def test_silence_is_hung_after_the_targets_limit_from_the_scheduled_start():
    with raw_server(says_nothing) as url:
        heard, *_ = fire(url, SearchText(timeout_s=0.3), FEW)
    assert outcomes(heard) == {"HUNG": 10}
    assert (heard.records["latency_s"] >= 0.295).all()  # timers are of whole milliseconds


def test_a_degraded_answer_is_told_from_a_whole_one_and_stage_times_are_kept():
    def respond(path):
        return searched(path, ("speech: late",)) if "limit=7" in path else found(path)

    with http_server(respond) as url:
        whole, *_ = fire(url, SearchText(), FEW)
        degraded, *_ = fire(url, SearchText(limit=7), FEW)
    assert outcomes(whole) == {"OK": 10}
    assert outcomes(degraded) == {"DEGRADED": 10}
    assert whole.records["stages_ms"][0].tolist() == [2.0, 1.0, 0.0, 0.0, 3.0]
    done = whole.done[0]
    assert (done.model_version, len(done.samples)) == ("mini-1", 1)
    assert len(degraded.samples) == 10


def test_an_image_is_sent_as_a_form():
    with http_server(found) as url:
        heard, *_ = fire(url, SearchImage(), FEW, items=[b"\xff\xd8jpeg"])
    assert outcomes(heard) == {"OK": 10}


def test_a_triton_that_does_not_answer_is_told_before_anything_is_fired():
    address = free_address().removeprefix("http://")
    with pytest.raises(Unavailable, match="Triton"):
        fire(free_address(), EmbedQuery(), FEW, triton=address)


def test_what_was_answered_before_a_stop_is_kept():
    load = Constant(rate_per_s=50, duration_s=600, warm_up_s=0)
    with running_server(ServerPlan()) as server:
        heard, *_ = fire(server.url, HttpGet(), load, stop_after=10)
    assert 10 <= len(heard.records) < 30_000
    assert 0 in heard.done


UNGUARDED = """
import numpy as np
from loadtest.harness.fleet import Fleet
from loadtest.harness.scenario import HttpGet
from loadtest.harness.worker.share import Share

times = np.zeros(50_000)
share = Share(0, [HttpGet()], [[""]], times, times.astype("u1"), times.astype("i4"), "", "", "t")
with Fleet([share]):
    pass
"""


def test_a_process_that_dies_while_it_starts_is_told_and_does_not_hang_the_run(tmp_path):
    """Its own start fails, because the program that starts it has no main guard."""
    program = tmp_path / "unguarded.py"
    program.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path.cwd(),
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert done.returncode != 0
    assert "Unavailable" in done.stderr


# ---- on other machines --------------------------------------------------------------------------


def test_a_station_says_everything_once_and_then_that_it_is_done():
    scenario = Scenario(name="t", load=FAST, target=(HttpGet(),), slo=(Slo(hung=0),))
    plan = make_plan(scenario, 1, {})
    with running_server(ServerPlan()) as server:
        station = Station(
            Share(5, scenario.target, [[""]], *share_of(plan, 0, 1), server.url, "", "t")
        )
        station.go(0.0)
        said, more = [], True
        while more:
            fresh, more = station.listen()
            said += fresh
        station.end()
    records = np.concatenate([m.records for m in said if isinstance(m, Batch)])
    assert sorted(records["scheduled_s"]) == pytest.approx(plan.times_s)
    assert set(records["process"]) == {5}
    assert [type(m) for m in said].count(Done) == 1


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_a_distributed_run_is_refused_in_words():
    with pytest.raises(ConfigurationError, match="needs Ray"), Cluster([], "auto"):
        pass


# ---- the client ---------------------------------------------------------------------------------


def test_connections_are_kept_and_one_more_is_opened_when_all_are_busy():
    seen = set()
    lock = threading.Lock()

    def serve(connection):
        with lock:
            seen.add(connection.fileno())
        with connection:
            while connection.recv(65_536):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async def ask(url):
        async with HttpClient(url) as client:
            for _ in range(5):
                await client.exchange(Request("GET", "/"))
            one_after_the_other = len(seen)
            await asyncio.gather(*(client.exchange(Request("GET", "/")) for _ in range(4)))
        return one_after_the_other

    with raw_server(serve) as url:
        assert asyncio.run(ask(url)) == 1


def test_a_reply_that_is_cut_short_is_a_failure():
    def serve(connection):
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

    async def ask(url):
        async with HttpClient(url) as client:
            await client.exchange(Request("GET", "/"))

    with raw_server(serve) as url, pytest.raises(NoReply, match="cut short"):
        asyncio.run(ask(url))


@pytest.mark.parametrize(
    "url", ["", "localhost:80", "ftp://a", "http://", "http://a:x", "http://a/b"]
)
def test_what_is_no_address_of_a_server_is_refused(url):
    with pytest.raises(ConfigurationError, match="no URL like"):
        check_url(url)


def test_what_is_told_waits_for_a_parent_that_is_slow_to_read() -> None:
    ours, theirs = Pipe()
    much = b"x" * (8 * 1024**2)  # more than a pipe holds
    parent = Thread(target=lambda: heard.append(theirs.recv()), daemon=True)
    heard: list[bytes] = []

    async def tell() -> None:
        listen(ours, lambda: None)
        parent.start()
        ours.send(much)

    uvloop.run(tell())
    parent.join()
    assert heard == [much]
