"""A stack of small real processes, and a program that supervises them: what the stack's tests use.

`python -m tests.supervised RUN_DIR PART…` supervises the parts named, until SIGTERM.
"""

import asyncio
import hashlib
import http.client
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it comes without type information

from deploy import keeper
from deploy.checks import Check, NotReady, in_thread
from deploy.process import Launch
from deploy.spec import Limits, Observer, Part
from deploy.stack import Stack
from deploy.state import StackState, hold, is_held, read_state
from tests.waiting import until

FAST = Limits(first_backoff_s=0.1, last_backoff_s=0.4, stable_s=60.0, recheck_s=0.1, ready_s=20.0)
WAIT_S = 20.0

# Answers on a port that it writes to a file; GET /crash ends it with code 3.
WEB = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/crash":
            print("the web part crashes now", flush=True)
            os._exit(3)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(server.server_port))
os.rename(sys.argv[1] + ".new", sys.argv[1])
server.serve_forever()
"""

# Ignores SIGTERM, has a grandchild in a session of its own that does too, and shared memory.
STUBBORN = """
import os, signal, subprocess, sys, time
def refuse(*_):
    print("SIGTERM refused", flush=True)
ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
signal.signal(signal.SIGTERM, refuse)
subprocess.Popen([sys.executable, "-c", ignore, sys.argv[1]], start_new_session=True)
open("/dev/shm/" + sys.argv[2] + "region", "w").close()
open(sys.argv[1], "w").close()
time.sleep(600)
"""

# Says when it is asked to end, in a file that all such parts share.
WITNESS = """
import os, signal, sys
def end(*_):
    with open(sys.argv[2], "a") as file:
        file.write(sys.argv[3] + "\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
open(sys.argv[1], "w").close()
while True:
    signal.pause()
"""

DOOMED = "import sys; print('the reason'); sys.exit(4)"
SILENT = "import time; time.sleep(600)"


def shared_memory(run_dir: Path) -> str:
    """Return the prefix of a test's shared memory, unique by its folder."""
    return f"pixserve-test-{hashlib.sha256(str(run_dir).encode()).hexdigest()[:12]}-"


def part(name: str, run_dir: Path, *, after: tuple[str, ...] = ()) -> Part:
    """Return the part of that name, whose program is the name up to a dash.

    A name that ends in `-patient` has a minute to stop.
    """
    mark = run_dir.parent / f"{name}.mark"
    kind = name.partition("-")[0]
    arguments: dict[str, tuple[str, ...]] = {
        "web": (WEB, str(mark)),
        "stubborn": (STUBBORN, str(mark), shared_memory(run_dir)),
        "witness": (WITNESS, str(mark), str(run_dir.parent / "ends"), name),
        "doomed": (DOOMED,),
        "silent": (SILENT,),
    }
    return Part(
        name=name,
        address=name,
        check=web_check(mark) if kind == "web" else mark_check(mark),
        launch=Launch(
            command=(sys.executable, "-S", "-c", *arguments[kind]),
            environment=dict(os.environ),
            folder=run_dir.parent,
            shared_memory=shared_memory(run_dir),
            marks=(mark,),
        ),
        after=after,
        start_s=1.0 if kind == "silent" else 20.0,
        stop_s=60.0 if name.endswith("-patient") else 0.3,
    )


def mark_check(mark: Path) -> Check:
    """Return a check that a part has written its file."""

    def look() -> str:
        if not mark.exists():
            raise NotReady("no mark yet")
        return "1.0"

    return in_thread(look)


def web_check(mark: Path) -> Check:
    """Return a check that the web part answers."""

    def ask() -> str:
        get(mark, "/")
        return "1.0"

    return in_thread(ask)


def get(mark: Path, path: str) -> None:
    """Send a GET to the web part whose port that file holds; raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", int(mark.read_text()), timeout=5)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    finally:
        connection.close()


def left_of(run_dir: Path) -> list[str]:
    """Return the processes and shared memory of a test's stack that are still there."""
    folder = str(run_dir.parent)
    processes = [
        f"{process.pid} {process.info['cmdline']}"
        for process in psutil.process_iter(["cmdline"])
        if any(folder in word for word in process.info["cmdline"] or ())
        and process.pid != os.getpid()
    ]
    regions = keeper.SHARED_MEMORY.glob(f"{shared_memory(run_dir)}*")
    return processes + [str(region) for region in regions]


def pid_of(run_dir: Path, name: str) -> int:
    """Return the pid of a part that runs."""
    state = read_state(run_dir)
    assert state is not None
    pid = state.part(name).pid
    assert pid is not None
    return pid


def is_ready(run_dir: Path, pid: int) -> bool:
    """Return whether the stack of that supervisor runs there with all its parts."""
    state = read_state(run_dir)
    return state is not None and state.pid == pid and state.ready


@contextmanager
def supervisor(run_dir: Path, *parts: str) -> Iterator[subprocess.Popen[bytes]]:
    """Give a supervisor in a process of its own, ready; it is killed at the end if it still is."""
    command = [sys.executable, "-m", "tests.supervised", str(run_dir), *parts]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: is_ready(run_dir, process.pid))
            yield process
        finally:
            process.kill()
    until(lambda: not is_held(run_dir))


class Seen:
    """An observer that keeps the states of a stack and can be waited on."""

    def __init__(self) -> None:
        self.states: list[StackState] = []
        self._changed = asyncio.Event()

    def __call__(self, state: StackState) -> None:
        """Keep a state."""
        self.states.append(state)
        self._changed.set()

    async def until(self, condition: Callable[[StackState], bool]) -> None:
        """Wait for a state; raises TimeoutError when it does not come."""
        async with asyncio.timeout(WAIT_S):
            while not (self.states and condition(self.states[-1])):
                self._changed.clear()
                await self._changed.wait()

    def phases(self, name: str) -> list[str]:
        """Return the states that a part went through."""
        states = [p.state for state in self.states for p in state.parts if p.name == name]
        return [state for i, state in enumerate(states) if i == 0 or states[i - 1] != state]


def stack_of(
    run_dir: Path, parts: list[Part], observer: Observer = lambda _: None, limits: Limits = FAST
) -> Stack:
    """Return a stack with short times."""
    return Stack(parts, run_dir, profile="test", address="-", observer=observer, limits=limits)


async def main(run_dir: Path, names: list[str]) -> None:
    """Supervise the parts named until SIGTERM."""
    with hold(run_dir) as lock:
        await stack_of(run_dir, [part(name, run_dir) for name in names]).run(lock)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
