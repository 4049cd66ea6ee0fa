"""What is measured: a URL, or the local stack of a data folder with all of its parts."""

from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it comes without type information

from deploy.state import PartState, StackState, read_state
from gateway.errors import ConfigurationError, NotFound
from loadtest.harness.worker.http import check_url

LOCAL_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Place:
    """Where requests go, and what can be seen and broken there."""

    url: str
    triton: str = ""  # HOST:PORT, gRPC; "": not known
    data_dir: Path | None = None  # of the local stack

    @property
    def state(self) -> StackState | None:
        """The local stack's state now; None where none runs here."""
        return None if self.data_dir is None else read_state(self.data_dir / "run")

    def part(self, name: str) -> PartState:
        """Return a part of the local stack; raises `NotFound`."""
        state = self.state
        if state is None:
            raise NotFound(f"there is no part {name} of a local stack: name its --data-dir")
        return state.part(name)

    def processes(self, name: str) -> list[psutil.Process]:
        """Return a part's process and all below it; empty while it is not running.

        Raises:
            NotFound: there is no such part.
        """
        pid = self.part(name).pid
        if pid is None:
            return []
        try:
            process = psutil.Process(pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def model_processes(self, model: str) -> list[psutil.Process]:
        """Return the processes of Triton that run a model; raises `NotFound`."""
        return [p for p in self.processes("triton")[1:] if runs_model(_command(p), model)]


def runs_model(command: list[str], model: str) -> bool:
    """Say whether a Python stub's command line is one of this model.

    Triton passes it the path of the model's code, or of its backend, and the instance's name, which
    is the model's, its version and a number: `clip_text_0_1`.
    """
    return any(
        f"/{model}/" in word or word.startswith(f"{model}_") or word == model for word in command
    )


def _command(process: psutil.Process) -> list[str]:
    try:
        command: list[str] = process.cmdline()
        return command
    except psutil.Error:
        return []


def find_place(url: str, triton: str, data_dir: Path | None, *, cold: bool = False) -> Place:
    """Find what is to be measured.

    Args:
        url: of the gateway; "": the local stack's.
        triton: HOST:PORT; "": the local stack's.
        data_dir: of the local stack; None: there is none, the URL must be given.
        cold: the local stack is yet to be started.

    Raises:
        ConfigurationError: nothing runs there, or it is not named.
    """
    folder = None if data_dir is None else data_dir.expanduser().resolve()
    state = None if folder is None else read_state(folder / "run")
    if cold:
        if folder is None or state is not None:
            raise ConfigurationError(
                "a cold start needs --data-dir of a stack that does not run: pixserve down"
            )
        return Place(check_url(url or LOCAL_URL), "", folder)
    if state is None or not state.ready:
        if not url:
            where = f" on {folder}" if folder else ""
            raise ConfigurationError(
                f"no stack is ready{where}: pixserve up --detach, or name what is measured with "
                "--url"
            )
        return Place(check_url(url), triton, None)
    return Place(check_url(url or state.address), triton or state.part("triton").address, folder)
