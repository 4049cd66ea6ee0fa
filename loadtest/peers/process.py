"""A peer's server as a process of its own: started, waited for, stopped."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from gateway.errors import ConfigurationError

START_S = 180.0
POLL_S = 0.5
STOP_S = 30.0


@contextmanager
def peer_server(
    command: Sequence[str | Path], health_url: str, log: Path, variables: Mapping[str, str]
) -> Iterator[None]:
    """Run a server while the block runs; it is up when its health page answers 200.

    Args:
        command: program and arguments.
        health_url: of a page that needs nothing.
        log: file that its output goes to.
        variables: of its environment, beside those of this process.

    Raises:
        ConfigurationError: it ended, or was not up within START_S.
    """
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command], env=os.environ | variables, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_up(server, health_url, log)
        yield
    finally:
        server.terminate()
        server.wait(timeout=STOP_S)


def _wait_until_up(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s and server.poll() is None:
        try:
            if httpx.get(url, timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(POLL_S)
    raise ConfigurationError(f"the server does not come up; its log: {log}")
