"""Faults hit what they name and let it go again; the slow network is slow; samples are true."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from deploy.state import PartState, StackState, hold, now, write_state
from gateway.errors import ConfigurationError, NotFound
from loadtest.harness.faults import Faults
from loadtest.harness.place import Place, find_place, runs_model
from loadtest.harness.proxy import SlowProxy
from loadtest.harness.sampling import Sampler, cache_lookups, model_loads, read_counters, scrape
from loadtest.harness.scenario import Fault
from loadtest.harness.worker.http import HttpClient, NoReply, Request
from tests.harness_servers import (
    found,
    free_address,
    http_server,
    raw_server,
    resets,
    says_nothing,
)
from tests.waiting import until

SLEEPER = "import time\nwhile True: time.sleep(1)"
PARENT = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {SLEEPER!r}, 'clip_text'])"


@contextmanager
def fake_stack(folder, **pids):
    """The state of a stack whose parts are these processes."""
    with hold(folder / "run"):
        parts = tuple(
            PartState(name=name, state="ready", pid=pid, since=now(), address="127.0.0.1:1")
            for name, pid in pids.items()
        )
        state = StackState(
            pid=os.getpid(), profile="mini", address="http://127.0.0.1:9", since=now(), parts=parts
        )
        write_state(folder / "run", state)
        yield find_place("", "", folder)


@pytest.fixture
def family():
    """A process with a child."""
    with subprocess.Popen([sys.executable, "-c", PARENT]) as process:
        parent = psutil.Process(process.pid)
        until(lambda: len(parent.children()) == 1)
        child = parent.children()[0]
        yield parent, child
        for each in (child, parent):
            if each.is_running():
                each.kill()


def test_a_place_finds_the_parts_of_a_stack_and_their_processes(tmp_path, family):
    parent, child = family
    with fake_stack(tmp_path, triton=parent.pid) as place:
        assert (place.url, place.triton) == ("http://127.0.0.1:9", "127.0.0.1:1")
        assert place.processes("triton") == [parent, child]
        assert place.model_processes("clip_text") == [child]
        assert place.model_processes("sentence") == []
        with pytest.raises(NotFound, match="no part milvus"):
            place.part("milvus")


def test_a_stop_holds_the_part_and_all_below_it_until_its_time_is_over(tmp_path, family):
    fault = Fault(kind="stop", part="triton", at_s=5, duration_s=3)
    with fake_stack(tmp_path, triton=family[0].pid) as place:
        faults = Faults([fault], place, None)
        faults.tick(4.9)
        assert faults.struck == []
        faults.tick(5.1)
        until(lambda: all(p.status() == psutil.STATUS_STOPPED for p in family))
        faults.tick(8.0)
        assert faults.struck[0].end_s is None
        faults.tick(8.2)
        until(lambda: all(p.status() != psutil.STATUS_STOPPED for p in family))
    assert (faults.struck[0].at_s, faults.struck[0].end_s) == (5.1, 8.2)


def test_a_run_that_is_given_up_lets_everything_go(tmp_path, family):
    fault = Fault(kind="stop", part="triton", at_s=0, duration_s=600)
    with fake_stack(tmp_path, triton=family[0].pid) as place:
        faults = Faults([fault], place, None)
        faults.tick(0.0)
        until(lambda: family[1].status() == psutil.STATUS_STOPPED)
        faults.end(1.0)
        until(lambda: all(p.status() != psutil.STATUS_STOPPED for p in family))


def test_a_kill_hits_the_part_alone(tmp_path, family):
    fault = Fault(kind="kill", part="triton", at_s=0)
    with fake_stack(tmp_path, triton=family[0].pid) as place:
        faults = Faults([fault], place, None)
        faults.tick(0.0)
    until(lambda: family[0].status() == psutil.STATUS_ZOMBIE)
    assert family[1].is_running()
    assert f"({family[0].pid})" in faults.struck[0].what


def test_a_models_process_is_killed_and_its_server_stays(tmp_path, family):
    fault = Fault(kind="kill", part="model", model="clip_text", at_s=0)
    with fake_stack(tmp_path, triton=family[0].pid) as place:
        Faults([fault], place, None).tick(0.0)
        until(lambda: not family[1].is_running() or family[1].status() == psutil.STATUS_ZOMBIE)


def test_a_part_that_does_not_run_is_told_not_raised(tmp_path):
    fault = Fault(kind="kill", part="worker", at_s=0)
    with fake_stack(tmp_path, triton=None, worker=None) as place:
        faults = Faults([fault], place, None)
        faults.tick(0.0)
    assert faults.struck[0].what == "nothing ran"


def test_faults_without_a_local_stack_are_refused():
    fault = Fault(kind="kill", part="triton", at_s=0)
    with pytest.raises(ConfigurationError, match="local stack"):
        Faults([fault], Place("http://127.0.0.1:1"), None)


@pytest.mark.parametrize(
    ("command", "model", "expected"),
    [
        (["stub", "/m/repository/tokenize/1/model.py", "tokenize_0_0"], "tokenize", True),
        (["stub", "/m/repository/clip_text/1/model.py", "clip_text_0_0"], "clip_vision", False),
        (["tritonserver", "--model-repository=/m"], "tokenize", False),
        ([], "tokenize", False),
    ],
)
def test_a_models_process_is_known_by_its_command_line(command, model, expected):
    assert runs_model(command, model) is expected


# ---- the proxy ----------------------------------------------------------------------------------


async def timed(url, count=1):
    loop = asyncio.get_running_loop()
    times = []
    async with HttpClient(url) as client:
        for _ in range(count):
            begin = loop.time()
            reply = await client.exchange(Request("GET", "/v1/search?q=a"))
            assert reply.status == 200
            times.append(loop.time() - begin)
    return times


def test_the_proxy_carries_requests_and_is_slow_when_told():
    with http_server(found) as url, SlowProxy(url) as proxy:
        asyncio.run(timed(proxy.url, 3))
        proxy.delay_s = 0.2
        assert min(asyncio.run(timed(proxy.url, 2))) >= 0.39
        proxy.delay_s = 0.0
        assert min(asyncio.run(timed(proxy.url, 5))) < 0.39


@pytest.mark.parametrize("serve", [resets, lambda connection: connection.close()])
def test_what_breaks_behind_the_proxy_breaks_before_it_too(serve):
    """A request must not seem to hang because the proxy kept a dead connection."""
    with raw_server(serve) as url, SlowProxy(url) as proxy, pytest.raises(NoReply):
        asyncio.run(timed(proxy.url))


def test_the_proxy_keeps_the_order_of_what_it_delays():
    def echo(connection):
        with connection:
            while data := connection.recv(65_536):
                connection.sendall(data)

    sent = b"".join(number.to_bytes(4, "big") for number in range(50_000))
    with raw_server(echo) as url, SlowProxy(url) as proxy:
        proxy.delay_s = 0.02
        port = int(proxy.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            back = b""
            while data := connection.recv(65_536):
                back += data
    assert back == sent


def test_a_proxy_to_nowhere_breaks_connections_and_can_be_closed():
    with SlowProxy(free_address()) as proxy, pytest.raises(NoReply):
        asyncio.run(timed(proxy.url))


# ---- samples ------------------------------------------------------------------------------------

METRICS = """
# HELP nv_inference_request_success Number of successful inference requests
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="sentence",version="1"} 10
nv_inference_request_success{model="sentence",version="2"} 5
# HELP nv_inference_queue_duration_us Cumulative queuing duration
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{model="sentence",version="1"} 3000
# HELP nv_gpu_utilization GPU utilization
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu="0"} 1
"""


def test_tritons_counters_are_summed_over_versions():
    assert read_counters(METRICS) == {"sentence": {"requests": 15.0, "queue_us": 3000.0}}


def test_a_models_load_is_the_change_between_two_readings():
    before = {"a": {"requests": 10, "queue_us": 1_000, "rows": 10, "runs": 10}}
    after = {"a": {"requests": 30, "queue_us": 41_000, "rows": 50, "runs": 20}}
    (load,) = model_loads(before, after)
    assert (load.requests, load.queue_ms, load.rows_per_run) == (20, 2.0, 4.0)
    assert model_loads(after, after) == ()


def test_a_server_that_restarted_counts_from_zero():
    before = {"a": {"requests": 1_000, "queue_us": 9_000}}
    (load,) = model_loads(before, {"a": {"requests": 4, "queue_us": 2_000}})
    assert (load.requests, load.queue_ms) == (4, 0.5)


def test_metrics_that_cannot_be_read_are_none():
    assert scrape(free_address()) == ""
    with http_server(found) as url:
        assert cache_lookups(Place(url)) is None


def test_the_gateways_cache_is_read_from_its_metrics():
    text = (
        "# TYPE pixserve_embedding_cache_lookups gauge\n"
        'pixserve_embedding_cache_lookups{outcome="hit"} 3.0\n'
        'pixserve_embedding_cache_lookups{outcome="miss"} 7.0\n'
    )
    with http_server(lambda _: (200, "text/plain; version=0.0.4", text.encode())) as url:
        assert cache_lookups(Place(url)) == (3.0, 7.0)


def test_processes_are_sampled_with_those_below_them(tmp_path, family):
    start = time.monotonic()
    with (
        fake_stack(tmp_path, triton=family[0].pid) as place,
        Sampler(place, {"me": os.getpid()}, lambda: time.monotonic() - start) as sampler,
    ):
        until(lambda: len(sampler.processes()) == 2 and len(sampler.processes()[1].at_s) >= 2)
    triton, me = sampler.processes()
    assert (triton.name, me.name) == ("triton", "me")
    assert triton.rss_mib[0] > 5
    assert triton.descriptors[0] >= 6  # of two processes
    assert me.threads[0] >= 1


def test_a_hung_server_behind_the_proxy_does_not_keep_it_open():
    with raw_server(says_nothing) as url, SlowProxy(url) as proxy:
        port = int(proxy.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
