import os

import pytest

from ingest.owners import is_dead, owner_name
from tests.owners import started


def test_a_worker_is_alive_until_its_process_is_gone() -> None:
    with started() as (process, name):
        assert not is_dead(name)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(name)  # a zombie already, before it is waited for
    assert is_dead(name)


def test_this_process_is_alive_in_each_of_its_lanes() -> None:
    names = {owner_name(lane) for lane in (0, 1, "bulk")}
    assert len(names) == 3
    assert not any(map(is_dead, names))
    assert max(map(len, names)) <= 64


def test_a_process_that_got_the_number_of_a_dead_one_is_another() -> None:
    machine, pid, start, lane = owner_name(0).split("-")
    assert pid == str(os.getpid())
    assert is_dead(f"{machine}-{pid}-{int(start) - 1}-{lane}")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "w",
        "host-1-abcdef12-0",
        "0123456789ab-1-1-0",  # of another machine
        "0123456789ab-99999999999-1-0",
        "0123456789ab-../../x-1-0",
        "-".join(["x"] * 60),
    ],
)
def test_of_another_machines_worker_nothing_is_known(name: str) -> None:
    assert not is_dead(name)
