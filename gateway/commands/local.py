"""What commands share that work on a stack's data folder itself, beside its running parts."""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ensembles.priorities import yield_to_searches
from gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from gateway.doors import Doors
    from gateway.settings import Settings

DataDir = Annotated[
    Path, typer.Option(envvar="PIXSERVE_DATA_DIR", help="Of the stack.", show_default=True)
]
DEFAULT_DATA_DIR = Path("pixserve-data")
CLEAR_LINE = "\r\x1b[K"

T = TypeVar("T")


def local_settings(data_dir: Path) -> "Settings":
    """Return the settings of a stack: those of the environment, with its parts' addresses.

    Raises:
        ConfigurationError: no stack runs there, and the environment names no parts either.
    """
    import msgspec

    from deploy.state import read_state
    from gateway.settings import settings_from_environment

    settings = msgspec.structs.replace(settings_from_environment(), data_dir=str(data_dir))
    state = read_state(settings.data_path / "run")
    if state is not None:
        addresses = {part.name: part.address for part in state.parts}
        milvus = settings.milvus if "@" in settings.milvus else addresses["milvus"]
        return msgspec.structs.replace(
            settings, profile=state.profile, triton=addresses["triton"], milvus=milvus
        )
    if "PIXSERVE_MILVUS" not in os.environ:
        raise ConfigurationError(
            f"no stack runs on {data_dir}: pixserve up --detach --data-dir {data_dir}, or set "
            "PIXSERVE_MILVUS and PIXSERVE_TRITON to where its parts are"
        )
    return settings


def open_local(data_dir: Path) -> "Doors":
    """Open the doors of a stack, from within the event loop that will use and close them.

    Raises:
        ConfigurationError: the folder holds no catalogue, or no stack runs there.
    """
    from gateway.doors import open_doors

    settings = local_settings(data_dir)
    if not settings.database and not (settings.data_path / "catalogue.db").is_file():
        raise ConfigurationError(
            f"{data_dir} holds no catalogue: name the stack's data folder with --data-dir"
        )
    return open_doors(settings)


def run_local(data_dir: Path, work: "Callable[[Doors], Awaitable[T]]", *, nice: bool = False) -> T:
    """Do something with the doors of a stack, in an event loop of its own.

    Args:
        data_dir: of the stack.
        work: what is to be done.
        nice: it takes long, and searches come first.
    """

    async def opened() -> T:
        doors = open_local(data_dir)
        try:
            return await work(doors)
        finally:
            await doors.close()
            _clear_line()

    logging.getLogger("pixserve").addHandler(logging.NullHandler())  # errors are told once
    if nice:
        yield_to_searches()
    return asyncio.run(opened())


def told(what: str, count: int) -> None:
    """Show on a terminal how far something is."""
    if sys.stderr.isatty():
        typer.echo(f"{CLEAR_LINE}{what}: {count:,}", nl=False, err=True)


def _clear_line() -> None:
    if sys.stderr.isatty():
        typer.echo(CLEAR_LINE, nl=False, err=True)
