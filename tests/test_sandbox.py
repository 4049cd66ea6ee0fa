import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import psutil
import pytest

from gateway.errors import InvalidRequest, MediaLimitExceeded, MediaRefused
from ingest.calls import FunctionName
from ingest.sandbox import Limits, Sandbox
from ingest.sandbox_child import FUNCTIONS

TIGHT = Limits(cpu_s=1, wall_s=20, memory_bytes=256 * 1024**2, reply_bytes=1024**2)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    hostile = Sandbox("tests.hostile_child")
    yield hostile
    hostile.close()


def test_the_named_functions_are_the_ones_that_are_there() -> None:
    assert set(FUNCTIONS) == set(get_args(FunctionName))


def test_a_call_gives_values_and_arrays(sandbox: Sandbox) -> None:
    reply = sandbox.run("answer", b"12345", {"a": 1})
    assert reply.value_as(list[int])[0] == 5
    np.testing.assert_array_equal(reply.arrays[0], [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])


def test_a_path_is_opened_by_the_caller(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    assert sandbox.run("answer", tmp_path / "a").value_as(list[int])[0] == 1000
    with pytest.raises(MediaRefused, match="cannot be read") as refused:
        sandbox.run("answer", tmp_path / "none")
    assert refused.value.reason == "unreadable"


@pytest.mark.parametrize(
    ("function", "error", "reason"),
    [
        ("crash", MediaRefused, "decoder_crashed"),
        ("leave", MediaRefused, "decoder_crashed"),
        ("write_garbage", MediaRefused, "decoder_crashed"),
        ("return_odd_numbers", MediaRefused, "decoder_crashed"),
        ("refuse", MediaRefused, "odd"),
        ("spin", MediaLimitExceeded, "cpu_time"),
        ("eat_memory", MediaLimitExceeded, "memory"),
        ("talk_too_much", MediaLimitExceeded, "reply_size"),
    ],
)
def test_whatever_a_child_does_is_an_error_that_names_it(
    sandbox: Sandbox, function: str, error: type[MediaRefused], reason: str
) -> None:
    with pytest.raises(error) as raised:
        sandbox.run(function, b"data", limits=TIGHT)
    assert raised.value.reason == reason
    assert sandbox.run("answer", b"1").value_as(list[int])[0] == 1


def test_a_child_that_hangs_is_killed_after_its_time(sandbox: Sandbox) -> None:
    begun_s = time.monotonic()
    with pytest.raises(MediaLimitExceeded) as raised:
        sandbox.run("hang", b"", limits=Limits(wall_s=0.3))
    assert raised.value.reason == "wall_time"
    assert time.monotonic() - begun_s < 5
    _, _, _, _, server = sandbox.run("look_around", b"").value_as(list[object])
    _, alive = psutil.wait_procs(psutil.Process(server).children(), timeout=10)
    assert not alive


def test_an_objection_to_the_request_is_one(sandbox: Sandbox) -> None:
    with pytest.raises(InvalidRequest, match="not like this"):
        sandbox.run("object_", b"")


def test_a_child_opens_no_path_where_the_machine_can_forbid_it(sandbox: Sandbox) -> None:
    if not sandbox.enforced().no_files:
        pytest.skip("this kernel has no Landlock")
    with pytest.raises(MediaRefused) as raised:
        sandbox.run("open_path", b"")
    assert raised.value.reason == "decoder_failed"


def test_a_child_reaches_no_network_where_the_machine_can_forbid_it(sandbox: Sandbox) -> None:
    if not sandbox.enforced().no_network:
        pytest.skip("no right to make a network namespace here")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1].to_bytes(2, "big")
        with pytest.raises(MediaRefused) as raised:
            sandbox.run("connect", b"", port)
    assert raised.value.reason == "decoder_failed"


def test_a_child_sees_no_secrets_and_no_descriptors_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIXSERVE_DATABASE", "postgresql://user:secret@host/db")
    fresh = Sandbox("tests.hostile_child")
    with open(os.devnull, "rb"):
        names, descriptors, source, _, _ = fresh.run("look_around", b"").value_as(list[object])
    fresh.close()
    assert not [name for name in names if name.startswith("PIXSERVE_")]
    assert len(descriptors) == 6  # the standard streams, arguments, source, reply
    assert source in descriptors


def test_it_keeps_its_promises_about_itself(sandbox: Sandbox) -> None:
    enforced = sandbox.enforced()
    assert enforced.threads == 1
    assert enforced.no_new_privileges


def test_calls_from_many_threads_run_side_by_side(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(24) as pool:
        sizes = list(pool.map(lambda n: sandbox.run("answer", b"x" * n), range(60)))
    assert [reply.value_as(list[int])[0] for reply in sizes] == list(range(60))


def test_calls_work_from_asyncio(sandbox: Sandbox) -> None:
    async def many() -> list[int]:
        calls = (asyncio.to_thread(sandbox.run, "answer", b"x" * n) for n in range(5))
        return [reply.value_as(list[int])[0] for reply in await asyncio.gather(*calls)]

    assert asyncio.run(many()) == [0, 1, 2, 3, 4]


def test_a_new_server_is_started_where_the_old_one_died() -> None:
    fresh = Sandbox("tests.hostile_child")
    *_, server = fresh.run("look_around", b"").value_as(list[int | list[int | str]])
    process = psutil.Process(server)
    process.kill()
    psutil.wait_procs([process], timeout=10)
    assert fresh.run("answer", b"abc").value_as(list[int])[0] == 3
    fresh.close()


def test_nothing_outlives_the_process_that_called() -> None:
    script = (
        "import threading, os\n"
        "from ingest.sandbox import Sandbox\n"
        "s = Sandbox('tests.hostile_child')\n"
        "print(s.run('look_around', b'').value_as(list)[4], flush=True)\n"
        "threading.Thread(target=lambda: s.run('hang', b''), daemon=True).start()\n"
        "import psutil\n"
        "while not psutil.Process(s._server.process.pid).children(): pass\n"
        "print('hanging', flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ours = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=os.environ | ours, timeout=60
    )
    lines = done.stdout.split()
    assert lines[1:] == [b"hanging"], done.stderr
    if psutil.pid_exists(int(lines[0])):
        _, alive = psutil.wait_procs([psutil.Process(int(lines[0]))], timeout=10)
        assert not alive


def test_a_call_starts_no_interpreter(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.enforced()
    monkeypatch.setattr(subprocess, "Popen", None)
    assert sandbox.run("answer", b"123").value_as(list[int])[0] == 3
