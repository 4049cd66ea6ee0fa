"""tritonserver out of the wheel nvidia-pytriton: finding it, laying it out, starting it.

Only the wheel's files are used; nothing of it is imported. The server wants one backend directory
with a folder a backend, and refuses symbolic links in it, so the files are linked (or copied)
there: the Python backend with the stub for this Python, and `encoder`, our Python-based backend.
"""

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ensembles
from gateway.errors import ConfigurationError

WHEEL = "nvidia-pytriton"
ENCODER = Path(ensembles.__file__).parent / "backends" / "encoder" / "model.py"
RESTRICTED = ("shared-memory", "model-repository", "trace", "logging")  # nobody may use these
ADMIN_HEADER = "pixserve-admin"
EXIT_S = 5  # for requests in flight when the server stops
LOAD_THREADS_MAX = 8


@dataclass(frozen=True)
class TritonWheel:
    """Where the wheel's parts are."""

    version: str  # of the wheel
    server: Path
    python_backend: Path  # folder
    stub: Path  # the process that runs Python models, for this Python
    caches: Path
    libraries: Path


@dataclass(frozen=True)
class TritonPlan:
    """What one server is started with."""

    repository: Path
    grpc_port: int
    metrics_port: int
    shared_memory: str  # prefix of its regions in /dev/shm, unique on this machine
    config_name: str = "cpu"  # which of a model's configs/*.pbtxt


def find_wheel() -> TritonWheel:
    """Return where the wheel's files are.

    Raises:
        ConfigurationError: it is not installed, or has nothing for this Python.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            f"{WHEEL} is not installed: pip install 'pixserve[local]', or use a running Triton "
            "with --triton HOST:PORT"
        )
    package = Path(spec.submodule_search_locations[0])
    root = package / "tritonserver"
    wheel = TritonWheel(
        version=importlib.metadata.version(WHEEL),
        server=root / "bin" / "tritonserver",
        python_backend=root / "backends" / "python",
        stub=root / "python_backend_stubs" / _python() / "triton_python_backend_stub",
        caches=root / "caches",
        libraries=package.parent / "nvidia_pytriton.libs",
    )
    for path in (wheel.server, wheel.python_backend, wheel.stub, wheel.caches, wheel.libraries):
        if not path.exists():
            raise ConfigurationError(
                f"{WHEEL} {wheel.version} lacks {path}: install the version that "
                f"pixserve[local] names, with a Python that it supports (this is {_python()})"
            )
    return wheel


def find_libpython() -> Path:
    """Return the shared library of the Python that runs this; the stub must load this very one.

    Raises:
        ConfigurationError: this Python has none.
    """
    name = f"libpython{_python()}.so.1.0"
    library = sysconfig.get_config_var("LIBDIR") or ""
    folders = (
        Path(library),
        Path(library, sysconfig.get_config_var("MULTIARCH") or ""),
        Path(sys.base_prefix, "lib"),
    )
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(dict.fromkeys(map(str, folders)))
    raise ConfigurationError(
        f"{name} is missing, which Triton's Python models need; looked in {looked}. On Debian or "
        f"Ubuntu: apt-get install libpython{_python()}; pyenv: PYTHON_CONFIGURE_OPTS="
        f"--enable-shared pyenv install --force {_python()}"
    )


def lay_out(wheel: TritonWheel, folder: Path) -> Path:
    """Make the backend directory at `folder`, in one step, and return it.

    Next to the backends lies `lib` with libpython alone, so that no other library of its folder
    takes the place of one of the server's.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for source in (*_files(wheel.python_backend), wheel.stub):
            _place(source, fresh / "python" / source.name)
        (fresh / "encoder").mkdir()
        # A copy: whoever edits the file in a data folder must not edit the source.
        shutil.copyfile(ENCODER, fresh / "encoder" / ENCODER.name)
        libpython = find_libpython()
        (fresh / "lib").mkdir()
        (fresh / "lib" / libpython.name).symlink_to(libpython)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def unique_prefix() -> str:
    """Return a prefix for shared memory regions that no other stack of this machine has."""
    return f"pixserve-{os.getpid()}-{secrets.token_hex(4)}-"


def triton_command(wheel: TritonWheel, backends: Path, plan: TritonPlan) -> tuple[str, ...]:
    """Return the command of a server for gRPC on loopback, with its metrics over HTTP.

    The inference API over HTTP is off. What could read other requests' memory, load models or
    write files is locked behind a key that nobody knows.
    """
    key = f"{ADMIN_HEADER}={secrets.token_hex(16)}"
    options = {
        "model-repository": plan.repository,
        "model-config-name": plan.config_name,
        "backend-directory": backends,
        "backend-config": f"python,shm-region-prefix-name={plan.shared_memory}",
        "cache-directory": wheel.caches,
        "allow-http": "false",
        "grpc-address": "127.0.0.1",
        "grpc-port": plan.grpc_port,
        "grpc-restricted-protocol": f"{','.join(RESTRICTED)}:{key}",
        "metrics-address": "127.0.0.1",
        "metrics-port": plan.metrics_port,
        "allow-gpu-metrics": str(plan.config_name != "cpu").lower(),
        "model-load-thread-count": min(2 * (os.cpu_count() or 1), LOAD_THREADS_MAX),
        "exit-timeout-secs": EXIT_S,
    }
    settings = (f"--{name}={value}" for name, value in options.items())
    return (str(wheel.server), "--disable-auto-complete-config", *settings)


def triton_environment(
    wheel: TritonWheel, backends: Path, environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the server's variables: the libraries, and this Python's packages for the models."""
    here = str(Path(sys.executable).parent)  # not resolved: the stub finds a venv by its bin folder
    return {
        **environment,
        "LD_LIBRARY_PATH": f"{backends / 'lib'}:{wheel.libraries}",
        "PATH": f"{here}:{environment.get('PATH', os.defpath)}",
    }


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file()]


def _place(source: Path, target: Path) -> None:
    """Link a file, or copy it where links are not possible (another disk, another owner)."""
    target.parent.mkdir(exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
