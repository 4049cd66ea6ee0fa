"""What the commands of evaluation and training share: options, progress, tables, reports."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from gateway.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from rich.table import Table

    from gateway.catalogue.catalogue import Catalogue
    from gateway.settings import Settings
    from training.tuning.fit import Epoch, FitSettings

StepProgress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all

DataDir = Annotated[
    Path, typer.Option(envvar="PIXSERVE_DATA_DIR", help="The data folder of the stack.")
]
Out = Annotated[Path | None, typer.Option(help="Also write the report to this file, as JSON.")]
HERE = Path("pixserve-data")

T = TypeVar("T")


@contextmanager
def steps() -> Iterator[StepProgress]:
    """Show a bar of what is being done."""
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )


@contextmanager
def epochs_shown() -> "Iterator[Callable[[Epoch, FitSettings], None]]":
    """Show a bar of the epochs, with loss and validation nDCG@10."""
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def told(epoch: "Epoch", settings: "FitSettings") -> None:
            text = f"loss {epoch.loss:.3f}, validation nDCG@10 {epoch.ndcg_10:.3f}"
            bar.update(task, description=text, completed=epoch.number, total=settings.epochs)

        yield told


def show(table: "Table") -> None:
    """Print a table."""
    from rich.console import Console

    Console().print(table)


def write_report(path: Path | None, report: object) -> None:
    """Write a report as JSON, where a file is named."""
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))


def read_report(path: Path, kind: type[T]) -> T:
    """Read an earlier report; raises `InvalidRequest` where it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"{path} is no report of this command: {error}") from error


def open_catalogue(data_dir: Path) -> "tuple[Settings, Catalogue]":
    """Return the settings of a data folder and its catalogue.

    Raises:
        ConfigurationError: the folder holds none.
    """
    from gateway.catalogue.catalogue import Catalogue
    from gateway.settings import settings_from_environment

    settings = msgspec.structs.replace(settings_from_environment(), data_dir=str(data_dir))
    if not settings.database and not (settings.data_path / "catalogue.db").is_file():
        raise ConfigurationError(
            f"{data_dir} holds no catalogue: name the stack's data folder with --data-dir"
        )
    return settings, Catalogue(settings.database_url)


@contextmanager
def needs_training_packages() -> Iterator[None]:
    """Say what to install where the training packages are missing."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"training needs the package {error.name}: pip install 'pixserve[train]'"
        ) from error
