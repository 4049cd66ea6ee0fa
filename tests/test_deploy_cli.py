import json
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # it comes without type information
import pytest

from deploy.keeper import SHARED_MEMORY
from deploy.parts import require_exported
from deploy.ports import pick_free
from deploy.state import read_state
from ensembles.bundle import read_bundle, repository_path
from ensembles.priorities import BACKGROUND, TRITON
from export.build import ensure_exported
from gateway.errors import ConfigurationError
from gateway.settings import Settings

PIXSERVE = str(Path(sys.executable).with_name("pixserve"))
PARTS = ("triton", "milvus", "worker", "gateway")
COMMAND_S = 90.0
UP_S = 15.0  # what the product promises


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds the mini profile and nothing else."""
    folder = tmp_path_factory.mktemp("exported")
    ensure_exported("mini", folder / "models", lambda *_: None)
    return folder


def pixserve(*arguments: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PIXSERVE, *arguments, "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )


def refusal(*arguments: str, data_dir: Path) -> str:
    """What `up` says on stderr when it cannot; it is one line and nothing is left."""
    done = pixserve("up", *arguments, data_dir=data_dir)
    assert done.returncode == 1, done.stdout + done.stderr
    assert read_state(data_dir / "run") is None
    assert left_of(data_dir) == []
    (line,) = done.stderr.splitlines()
    return line


def left_of(data_dir: Path) -> list[str]:
    """The processes that still work on a data folder."""
    return [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if any(str(data_dir) in word for word in process.info["cmdline"] or ())
    ]


@pytest.mark.live
def test_up_status_down(exported: Path) -> None:
    port, rpc_port = pick_free(), pick_free()
    regions = set(SHARED_MEMORY.iterdir())
    ports = ("--port", str(port), "--rpc-port", str(rpc_port))
    up = pixserve("up", "--detach", *ports, data_dir=exported)
    try:
        assert up.returncode == 0, up.stderr
        assert f"http://127.0.0.1:{port}" in up.stdout
        took_s = float(up.stdout.partition("ready in ")[2].partition(" s")[0])
        assert took_s < UP_S

        shown = pixserve("status", data_dir=exported)
        assert shown.returncode == 0
        assert all(f"\n{name} " in shown.stdout for name in PARTS)

        state = json.loads(pixserve("status", "--json", data_dir=exported).stdout)
        assert [part["name"] for part in state["parts"]] == list(PARTS)
        assert {part["state"] for part in state["parts"]} == {"ready"}
        assert state["parts"][0]["version"] == "2.51.0"
        for part in (state["parts"][0], state["parts"][3]):
            with urllib.request.urlopen(part["metrics"]) as reply:
                assert reply.status == 200
        with socket.create_connection(("127.0.0.1", rpc_port)):
            pass
        niceness = [psutil.Process(part["pid"]).nice() for part in state["parts"]]
        ours = psutil.Process().nice()
        assert niceness == [min(19, ours + more) for more in (TRITON, 0, BACKGROUND, 0)]

        again = pixserve("up", "--port", str(pick_free()), data_dir=exported)
        assert again.returncode == 1
        assert f"already runs on {exported} (pid {state['pid']})" in again.stderr
    finally:
        down = pixserve("down", data_dir=exported)
    assert (down.returncode, down.stdout) == (0, "stopped\n")
    assert pixserve("status", data_dir=exported).returncode == 3
    assert left_of(exported) == []
    assert {region.name for region in set(SHARED_MEMORY.iterdir()) - regions} == set()
    assert sorted(path.name for path in (exported / "run").iterdir()) == [
        "logs",
        "triton",
        "workers",
    ]


@pytest.mark.live
def test_a_broken_model_folder_is_told_in_tritons_own_words(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported / "models", tmp_path / "models", symlinks=True)
    model = repository_path(tmp_path / "models", "mini") / "sentence" / "1" / "model.onnx"
    model.unlink()
    model.write_text("no model")
    line = refusal("--port", str(pick_free()), "--detach", data_dir=tmp_path)
    assert "triton did not start" in line
    assert "failed to load 'sentence' version 1" in line
    assert "triton.log" in line


@pytest.mark.live
def test_an_external_part_that_does_not_answer_is_named(exported: Path) -> None:
    nowhere = f"127.0.0.1:{pick_free()}"
    port = str(pick_free())
    line = refusal("--triton", nowhere, "--port", port, data_dir=exported)
    assert f"triton at {nowhere} does not answer" in line
    assert "leave --triton out" in line


@pytest.mark.parametrize("option", ["--port", "--rpc-port"])
def test_a_taken_port_is_told_before_anything_is_done(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        others = () if option == "--port" else ("--port", str(pick_free()))
        line = refusal(*others, option, port, data_dir=tmp_path)
    assert f"port {port} on 127.0.0.1 cannot be used" in line
    assert f"another port with {option}" in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_profile_that_must_be_exported_says_how(tmp_path: Path) -> None:
    line = refusal("--profile", "base", "--port", str(pick_free()), data_dir=tmp_path)
    assert f"pixserve export --profile base --data-dir {tmp_path}" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--profile", "foo"), "there is no profile 'foo'; there are: mini"),
        (("--milvus", "foo"), "--milvus takes a URI"),
        (("--triton", "foo"), "--triton takes HOST:PORT"),
        (("--triton", "[::1"), "--triton takes HOST:PORT"),
        (("--database", "foo"), "--database takes a SQLAlchemy URL"),
        (("--database", "postgres://u:secret@h:x/y"), "--database takes a SQLAlchemy URL"),
    ],
)
def test_an_address_that_is_none_is_told_before_anything_is_done(
    arguments: tuple[str, str], told: str, tmp_path: Path
) -> None:
    line = refusal(*arguments, data_dir=tmp_path)
    assert told in line
    assert "secret" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_that_cannot_be_written_to_is_named() -> None:
    done = pixserve("up", data_dir=Path("/sys/pixserve"))
    assert done.returncode == 1
    assert "cannot write to /sys/pixserve/run" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_status_and_down_where_nothing_runs(tmp_path: Path) -> None:
    status = pixserve("status", data_dir=tmp_path)
    assert status.returncode == 3
    assert "no stack runs on" in status.stdout
    assert pixserve("status", "--json", data_dir=tmp_path).stdout == "null\n"
    down = pixserve("down", data_dir=tmp_path)
    assert down.returncode == 0
    assert "no stack runs on" in down.stdout


def test_models_with_random_weights_are_served_only_when_that_is_allowed(tmp_path: Path) -> None:
    ensure_exported("mini", tmp_path / "models", lambda *_: None)
    path = tmp_path / "models/mini/bundles/1/bundle.json"
    bundle = msgspec.structs.replace(read_bundle(path), random_weights=True)
    path.write_bytes(msgspec.json.encode(bundle))
    settings = Settings(data_dir=str(tmp_path))
    with pytest.raises(ConfigurationError, match="--allow-random-weights"):
        require_exported(settings)
    require_exported(msgspec.structs.replace(settings, allow_random_weights=True))
