"""What a batch job writes: .npy or .parquet, row by row.

An output is written beside its place and put there by one rename, so a file that stands under its
name is whole.
"""

import errno
import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gateway.batch import Row
from gateway.errors import ConfigurationError, InvalidRequest, StorageFull

OUTPUT_SUFFIXES = (".npy", ".parquet")


class Output(Protocol):
    """A file of embeddings that grows row by row."""

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write what belongs to the end."""


class NpyOutput:
    """One float32 array, (items, width); row i is item i, NaN where it has an error."""

    def __init__(self, path: Path, width: int) -> None:
        self._file = path.open("wb")
        self._shape = (0, width)
        self._write_header()

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows."""
        self._file.write(np.stack([row.embedding for row in rows]).astype("<f4").tobytes())
        self._shape = (self._shape[0] + len(rows), self._shape[1])

    def close(self) -> None:
        """Put the final number of rows into the header, which keeps room for it."""
        if not self._file.closed:
            self._file.seek(0)
            self._write_header()
            self._file.close()

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[no-untyped-call]


class ParquetOutput:
    """Columns id, embedding, model_version, error; one row group a window.

    Where there is an error the embedding is NaN, as in .npy: Parquet has no null lists of fixed
    size.
    """

    def __init__(self, path: Path, width: int, model_version: str, numbered: bool) -> None:
        self._arrow, parquet = _pyarrow()
        arrow = self._arrow
        self._vector = arrow.list_(arrow.float32(), width)
        self._schema = arrow.schema(
            [
                ("id", arrow.int64() if numbered else arrow.string()),
                ("embedding", self._vector),
                ("model_version", arrow.string()),
                ("error", arrow.string()),
            ]
        )
        self._version = model_version
        self._writer = parquet.ParquetWriter(path, self._schema)

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows as one row group."""
        arrow = self._arrow
        values = np.concatenate([row.embedding for row in rows])
        columns = [
            arrow.array([row.id for row in rows], self._schema.field("id").type),
            arrow.FixedSizeListArray.from_arrays(values, type=self._vector),
            arrow.array([self._version] * len(rows)),
            arrow.array([row.error or None for row in rows], arrow.string()),
        ]
        self._writer.write_table(arrow.table(columns, schema=self._schema))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


def _pyarrow() -> tuple[Any, Any]:
    """Import the optional pyarrow, which has no types."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ConfigurationError(
            "writing .parquet needs pyarrow: pip install 'pixserve[parquet]', or write .npy"
        ) from error


def check_output(path: Path) -> None:
    """Refuse an output that could not be written, before anything is embedded."""
    if path.suffix not in OUTPUT_SUFFIXES:
        raise InvalidRequest(f"{path}: an output ends in {' or '.join(OUTPUT_SUFFIXES)}")
    if path.is_dir():
        raise InvalidRequest(f"{path} is a folder; name a file")
    if not os.access(path.parent, os.W_OK):
        raise InvalidRequest(f"{path.parent} is not a folder that can be written to")
    if path.suffix == ".parquet":
        _pyarrow()


@contextmanager
def open_output(path: Path, width: int, model_version: str, *, numbered: bool) -> Iterator[Output]:
    """Open an output; it takes its place, or another's, only where nothing was raised.

    Args:
        path: ends in .npy or .parquet.
        width: of the embeddings.
        model_version: the bundle's id, for .parquet.
        numbered: ids are numbers, else texts.

    Raises:
        StorageFull: the disk has no room.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if path.suffix == ".npy":
            output: Output = NpyOutput(partial, width)
        else:
            output = ParquetOutput(partial, width, model_version, numbered)
        try:
            yield output
        finally:
            output.close()
        partial.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"{path.parent} has no room left") from error
        raise
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
