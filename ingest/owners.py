"""Who holds a job: a name by which this machine can tell whether its worker still lives.

A name is the machine (its boot and its process namespace), the process, when that process
started, and the lane. Of a worker on another machine nothing can be told from here: its lease
decides.
"""

import hashlib
import os
import re
from functools import cache
from pathlib import Path

NAME = re.compile(r"(?P<machine>[0-9a-f]{12})-(?P<pid>[0-9]{1,10})-(?P<start>[0-9]{1,20})-\w{1,8}")
STATE_FIELD, START_FIELD = 0, 19  # of /proc/PID/stat after the command's name; see proc(5)


def owner_name(lane: int | str) -> str:
    """Return the name under which a lane of this process holds jobs, at most 64 characters."""
    pid = os.getpid()
    return f"{_machine()}-{pid}-{_start_of(pid)}-{lane}"


def process_of(name: str) -> str:
    """Return the part of a worker's name that all lanes of its process share.

    Raises:
        ValueError: it is no name that `owner_name` gives.
    """
    if NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name of a worker: MACHINE-PID-START-LANE is")
    return name.rpartition("-")[0]


def is_dead(name: str) -> bool:
    """Tell whether a worker is known to be dead; one of another machine never is."""
    told = NAME.fullmatch(name)
    if told is None or told["machine"] != _machine():
        return False
    return _start_of(int(told["pid"])) != told["start"]


@cache
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = os.readlink("/proc/self/ns/pid")  # containers count their processes anew
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:12]


def _start_of(pid: int) -> str:
    """Return when a process started, in ticks since the boot; "" where it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[STATE_FIELD] in "ZX" else fields[START_FIELD]
