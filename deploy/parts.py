"""The parts of the local stack: what is started, with which command and variables, in which order.

triton and milvus at once; worker and gateway as soon as milvus answers. An address that the user
gives replaces the part: it is checked, not started.
"""

import importlib.metadata
import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
from sqlalchemy.engine import make_url

from deploy.checks import database_check, file_check, gateway_check, milvus_check, triton_check
from deploy.milvus_lite import milvus_lite_command
from deploy.ports import pick_free
from deploy.process import Launch
from deploy.spec import Part, last_line
from deploy.triton_wheel import (
    TritonPlan,
    find_wheel,
    lay_out,
    triton_command,
    triton_environment,
    unique_prefix,
)
from ensembles import priorities
from ensembles.bundle import repository_path, servable_bundles
from gateway.errors import ConfigurationError
from gateway.settings import PREFIX, Settings, settings_to_environment

GATEWAY_STOP_S = 12.0  # it finishes the requests that run
WORKER_MARK = "worker.ready"  # the worker makes this file in the run folder when it takes jobs
MILVUS_LITE = "milvus-lite"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared, not listened on)

EXTERNAL = ("triton", "milvus", "database")  # what may run elsewhere

# Each library would otherwise start a thread a core, in every process of the stack.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def run_dir(settings: Settings) -> Path:
    """Return the folder of the stack's state and logs."""
    return settings.data_path / "run"


def gateway_url(settings: Settings) -> str:
    """Return where the gateway answers, as a URL for this machine."""
    host = ANY_ADDRESS.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def local_parts(settings: Settings, external: Collection[str] = ()) -> tuple[Part, ...]:
    """Return the parts of the stack, with free ports for what it starts itself.

    Args:
        settings: with an absolute data folder.
        external: which of EXTERNAL run already, at the address that the settings give.

    Raises:
        ConfigurationError: no bundle is exported, a wheel or libpython is missing.
    """
    require_exported(settings)
    if "triton" not in external:
        settings = msgspec.structs.replace(settings, triton=f"127.0.0.1:{pick_free()}")
    if "milvus" not in external:
        settings = msgspec.structs.replace(settings, milvus=f"http://127.0.0.1:{pick_free()}")
    variables = part_environment(os.environ, settings)
    return (
        _external_triton(settings) if "triton" in external else _triton(settings, variables),
        _external_milvus(settings) if "milvus" in external else _milvus(settings, variables),
        *([_database(settings)] if "database" in external else []),
        _worker(settings, variables),
        _gateway(settings, variables),
    )


def require_exported(settings: Settings) -> None:
    """Raise `ConfigurationError` where the profile has no bundle that may be served."""
    allowed = settings.allow_random_weights
    if not servable_bundles(settings.models_dir, settings.profile, allowed):
        raise ConfigurationError(
            f"the profile {settings.profile} is not exported to {settings.models_dir}: run "
            f"pixserve export --profile {settings.profile} --data-dir {settings.data_dir}"
        )


def part_environment(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the variables that every part starts with: one way to say each setting."""
    inherited = {key: value for key, value in environment.items() if not key.startswith(PREFIX)}
    chosen = {"PYTHONUNBUFFERED": "1", **settings_to_environment(settings)}
    return {**ONE_THREAD, **inherited, **chosen}


def explain_triton(text: str) -> str:
    """Return the line of Triton's log that says why it did not start."""
    patterns = (
        r"\"failed to load '[^']+' version \d+: [^\"]*",
        r"\"Poll failed for model directory '[^\"]*",
        r"^\S*[Ee]rror: .*",
        r"^error: .*",
        r"^\S*tritonserver: .*",
    )
    for pattern in patterns:
        if found := re.search(pattern, text, re.MULTILINE):
            return " ".join(found.group().strip('"').split())
    return last_line(text)


def _triton(settings: Settings, variables: Mapping[str, str]) -> Part:
    wheel = find_wheel()
    backends = lay_out(wheel, run_dir(settings) / "triton")
    plan = TritonPlan(
        repository=repository_path(settings.models_dir, settings.profile),
        grpc_port=int(settings.triton.rpartition(":")[2]),
        metrics_port=pick_free(),
        shared_memory=unique_prefix(),
        config_name=settings.target,
    )
    return Part(
        name="triton",
        address=settings.triton,
        check=triton_check(settings.triton),
        launch=Launch(
            command=triton_command(wheel, backends, plan),
            environment=triton_environment(wheel, backends, variables),
            folder=run_dir(settings),
            nice=priorities.TRITON,
            shared_memory=plan.shared_memory,
        ),
        explain=explain_triton,
        metrics=f"http://127.0.0.1:{plan.metrics_port}/metrics",
        whole=True,  # it never restarts the process of a model, and says that it is ready
    )


def _milvus(settings: Settings, variables: Mapping[str, str]) -> Part:
    folder = settings.data_path / "milvus"
    folder.mkdir(parents=True, exist_ok=True)
    address = settings.milvus.removeprefix("http://")
    command, libraries = milvus_lite_command(folder / "pixserve.db", address)
    return Part(
        name="milvus",
        address=settings.milvus,
        check=milvus_check(settings.milvus, importlib.metadata.version(MILVUS_LITE)),
        launch=Launch(tuple(command), {**variables, **libraries}, folder),
    )


def _worker(settings: Settings, variables: Mapping[str, str]) -> Part:
    mark = run_dir(settings) / WORKER_MARK
    return Part(
        name="worker",
        address="",
        check=file_check(mark, _our_version()),
        launch=Launch(
            command=(sys.executable, "-m", "ingest.worker"),
            environment=variables,
            folder=run_dir(settings),
            nice=priorities.BACKGROUND,
            marks=(mark,),
        ),
        after=("milvus",),
    )


def _gateway(settings: Settings, variables: Mapping[str, str]) -> Part:
    host = ANY_ADDRESS.get(settings.host, settings.host)
    url = gateway_url(settings)
    return Part(
        name="gateway",
        address=url,
        check=gateway_check(host, settings.port, _our_version()),
        launch=Launch(
            command=(sys.executable, "-m", "gateway.serve"),
            environment=variables,
            folder=run_dir(settings),
        ),
        after=("milvus",),
        metrics=f"{url}/metrics",
        stop_s=GATEWAY_STOP_S,
    )


def _external_triton(settings: Settings) -> Part:
    return Part("triton", settings.triton, triton_check(settings.triton))


def _external_milvus(settings: Settings) -> Part:
    scheme, _, rest = settings.milvus.partition("://")
    shown = f"{scheme}://{rest.rpartition('@')[2]}"
    return Part("milvus", shown, milvus_check(settings.milvus))


def _database(settings: Settings) -> Part:
    shown = make_url(settings.database).render_as_string(hide_password=True)
    return Part("database", shown, database_check(settings.database))


def _our_version() -> str:
    return importlib.metadata.version("pixserve")
