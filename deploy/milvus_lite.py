"""The embedded Milvus (milvus-lite 2.5, C++) as a process with an address of its own."""

import importlib.util
from pathlib import Path

from gateway.errors import ConfigurationError


def milvus_lite_command(db_file: Path, address: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the variables that start the engine.

    Only the wheel's files are used: importing the package would bring in pkg_resources.

    Args:
        db_file: where the engine keeps its data; its folder must exist.
        address: HOST:PORT to listen on.

    Raises:
        ConfigurationError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("milvus_lite")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "milvus-lite is not installed: pip install 'pixserve[local]', or use a running Milvus "
            "with --milvus URI"
        )
    folder = Path(spec.submodule_search_locations[0]) / "lib"
    return (
        [str(folder / "milvus"), str(db_file), address, "ERROR"],
        {"LD_LIBRARY_PATH": str(folder)},
    )
