import asyncio
import os
import sysconfig
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from deploy import keeper, triton_wheel
from deploy.checks import NotReady, triton_check
from deploy.parts import explain_triton
from deploy.ports import pick_free
from deploy.process import Launch, Running, start
from deploy.state import hold
from deploy.triton_wheel import (
    TritonPlan,
    find_libpython,
    find_wheel,
    lay_out,
    triton_command,
    triton_environment,
    unique_prefix,
)
from gateway.errors import ConfigurationError

START_S = 20.0
POLL_S = 0.05

# A Python-based backend, as ours is: it doubles the input, and says where numpy is from.
DOUBLING = """
import numpy
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        if args["model_name"] == "broken":
            raise ValueError("its weights are missing")

    def execute(self, requests):
        inputs = [pb.get_input_tensor_by_name(r, "X").as_numpy() for r in requests]
        where = numpy.array([numpy.__file__], dtype=object)
        return [
            pb.InferenceResponse([pb.Tensor("Y", 2 * x), pb.Tensor("WHERE", where)]) for x in inputs
        ]
"""

CONFIG = """
name: "{name}"
backend: "encoder"
input [{{ name: "X", data_type: TYPE_FP32, dims: [-1] }}]
output [
  {{ name: "Y", data_type: TYPE_FP32, dims: [-1] }},
  {{ name: "WHERE", data_type: TYPE_STRING, dims: [1] }}
]
instance_group [{{ kind: KIND_CPU, count: 1 }}]
"""


@pytest.fixture
def backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = tmp_path / "model.py"
    model.write_text(DOUBLING)
    monkeypatch.setattr(triton_wheel, "ENCODER", model)
    return lay_out(find_wheel(), tmp_path / "run" / "triton")


@pytest.fixture
def prefix() -> Iterator[str]:
    name = unique_prefix()
    yield name
    assert list(keeper.SHARED_MEMORY.glob(f"{name}*")) == []


def repository_of(folder: Path, *models: str) -> Path:
    for name in models:
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.onnx").write_text("not read by this backend")
        (folder / name / "configs").mkdir()
        (folder / name / "configs" / "cpu.pbtxt").write_text(CONFIG.format(name=name))
    return folder


@asynccontextmanager
async def triton(backends: Path, plan: TritonPlan) -> AsyncIterator[Running]:
    """The wheel's server behind a keeper; killed at the end if it still runs."""
    wheel = find_wheel()
    launch = Launch(
        command=triton_command(wheel, backends, plan),
        environment=triton_environment(wheel, backends, os.environ),
        folder=backends.parent,
        shared_memory=plan.shared_memory,
    )
    with hold(backends.parent) as lock:
        running = await start(launch, backends.parent / "triton.log", lock)
        try:
            yield running
        finally:
            await running.stop(0)


async def until_ready(address: str, running: Running) -> str:
    async with asyncio.timeout(START_S):
        while not running.ended.done():
            try:
                return await triton_check(address)()
            except NotReady:
                await asyncio.wait({running.ended}, timeout=POLL_S)
    raise AssertionError("the server ended")


def log_of(backends: Path) -> str:
    return (backends.parent / "triton.log").read_text()


@pytest.mark.live
def test_the_server_serves_a_python_based_backend_on_loopback(
    backends: Path, tmp_path: Path, prefix: str
) -> None:
    repository = repository_of(tmp_path / "repository", "double")
    plan = TritonPlan(repository, pick_free(), pick_free(), prefix)
    address = f"127.0.0.1:{plan.grpc_port}"

    async def scene() -> None:
        async with triton(backends, plan) as running:
            assert await until_ready(address, running) == "2.51.0"
            await asyncio.to_thread(ask, address)
            assert len(list(keeper.SHARED_MEMORY.glob(f"{prefix}*"))) == 1
            await running.stop(10)
            assert running.ended.result() == 0

    asyncio.run(scene())
    assert f"Started GRPCInferenceService at {address}" in log_of(backends)
    assert f"Started Metrics Service at 127.0.0.1:{plan.metrics_port}" in log_of(backends)
    assert "Started HTTPService" not in log_of(backends)


def ask(address: str) -> None:
    with InferenceServerClient(address) as client:
        tensor = InferInput("X", [3], "FP32")
        tensor.set_data_from_numpy(np.array([1, 2, 3], np.float32))
        reply = client.infer("double", [tensor])
        np.testing.assert_array_equal(reply.as_numpy("Y"), [2, 4, 6])
        (where,) = reply.as_numpy("WHERE")
        assert where.decode() == np.__file__  # this environment's packages
        for forbidden in (
            client.get_system_shared_memory_status,
            client.get_model_repository_index,
            client.get_trace_settings,
            client.get_log_settings,
        ):
            with pytest.raises(InferenceServerException, match="restricted"):
                forbidden()


@pytest.mark.live
def test_a_model_that_does_not_load_is_told_in_one_line(
    backends: Path, tmp_path: Path, prefix: str
) -> None:
    repository = repository_of(tmp_path / "repository", "double", "broken")
    plan = TritonPlan(repository, pick_free(), pick_free(), prefix)

    async def scene() -> int:
        async with triton(backends, plan) as running:
            await asyncio.wait({running.ended}, timeout=START_S)
            return running.ended.result()

    assert asyncio.run(scene()) == 1
    assert explain_triton(log_of(backends)).startswith(
        "failed to load 'broken' version 1: Internal: ValueError: its weights are missing"
    )


@pytest.mark.live
def test_a_killed_server_leaves_no_process_and_no_shared_memory(
    backends: Path, tmp_path: Path, prefix: str
) -> None:
    repository = repository_of(tmp_path / "repository", "double")
    plan = TritonPlan(repository, pick_free(), pick_free(), prefix)

    async def scene() -> None:
        async with triton(backends, plan) as running:
            await until_ready(f"127.0.0.1:{plan.grpc_port}", running)
            stubs = keeper.below(running.pid)
            assert len(stubs) == 1
            keeper.kill(running.pid)
            await running.ended
            assert not stubs.keys() & keeper.below(os.getpid()).keys()
            assert list(keeper.SHARED_MEMORY.glob(f"{prefix}*")) == []

    asyncio.run(scene())


def test_the_layout_has_the_stub_of_this_python_and_our_backend(tmp_path: Path) -> None:
    wheel = find_wheel()
    folder = lay_out(wheel, tmp_path / "triton")
    assert (
        folder / "python" / "triton_python_backend_stub"
    ).read_bytes() == wheel.stub.read_bytes()
    assert (folder / "python" / "libtriton_python.so").exists()
    assert (folder / "encoder" / "model.py").read_text() == triton_wheel.ENCODER.read_text()
    assert (folder / "lib" / find_libpython().name).resolve() == find_libpython().resolve()


def test_the_layout_replaces_an_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "triton" / "python").mkdir(parents=True)
    (tmp_path / "triton" / "python" / "old").touch()
    lay_out(find_wheel(), tmp_path / "triton")
    assert not (tmp_path / "triton" / "python" / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["triton"]


def test_a_missing_libpython_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: str(tmp_path))
    monkeypatch.setattr("sys.base_prefix", str(tmp_path))
    with pytest.raises(
        ConfigurationError, match=r"libpython3\.\d+\.so.* apt-get install libpython"
    ):
        find_libpython()


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(ConfigurationError, match=r"pip install 'pixserve\[local\]'.* --triton"):
        find_wheel()


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            "E1 lifecycle.cc:6] \"failed to load 'a' version 1: Internal: ValueError: no\n\n"
            'At:\n  model.py(7): initialize\n"\nI1 more\nerror: creating server: Internal - failed',
            "failed to load 'a' version 1: Internal: ValueError: no At: model.py(7): initialize",
        ),
        ("I1 fine\nerror: creating server: Not found - no repository", "error: creating server"),
        ("tritonserver: option '--x' is unknown\nUsage:", "tritonserver: option '--x' is unknown"),
        ("", ""),
    ],
)
def test_the_line_of_tritons_log_that_matters_is_found(log: str, line: str) -> None:
    assert explain_triton(log).startswith(line)


def test_prefixes_of_shared_memory_are_unique() -> None:
    assert len({unique_prefix() for _ in range(100)}) == 100
