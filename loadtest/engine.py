"""The embedded engine, started for a measurement and ended after it."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from deploy.milvus_lite import milvus_lite_command
from deploy.parts import ONE_THREAD
from deploy.ports import pick_free
from gateway.errors import Unavailable

START_S = 60.0
STOP_S = 10.0


@contextmanager
def embedded_engine(folder: Path) -> Iterator[str]:
    """Run the embedded Milvus as a stack does, on a free port; give its address.

    Its data is in the folder.

    Raises:
        ConfigurationError: it is not installed.
        Unavailable: it does not start.
    """
    address = f"127.0.0.1:{pick_free()}"
    command, variables = milvus_lite_command(folder / "bench.db", address)
    with (folder / "milvus.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=os.environ | ONE_THREAD | variables, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_it_answers(address, process)
        yield f"http://{address}"
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(address: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_S
    with grpc.insecure_channel(address) as channel:
        while time.monotonic() < until and process.poll() is None:
            try:
                grpc.channel_ready_future(channel).result(timeout=1)
                return
            except grpc.FutureTimeoutError:
                continue
    raise Unavailable("milvus", f"the embedded Milvus did not start within {START_S:g} s")
