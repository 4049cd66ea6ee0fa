"""What a batch job reads and writes: lines and folders of images in, .npy and .parquet out.

Both ways stream. An output is written beside its place and put there by one rename, so a file that
stands under its name is whole.
"""

import errno
import importlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
import numpy as np

from ensembles.contracts import MAX_IMAGE_BYTES, MAX_TEXT_BYTES
from gateway.batch import (
    Encoder,
    Item,
    Limits,
    Row,
    TextEncoder,
    embed_all,
    image_encoder,
    padded_bytes,
    padded_tokens,
    text_encoder,
)
from gateway.errors import ConfigurationError, InvalidRequest, StorageFull
from gateway.triton import Role

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
OUTPUT_SUFFIXES = (".npy", ".parquet")
EMPTY_LINE = "the line is empty"
BLOCK_BYTES = 1024 * 1024
UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
MAX_ERRORS_TOLD = 100  # in a summary; a .parquet output has them all


class Failure(msgspec.Struct, frozen=True):
    """An item that could not be embedded."""

    id: int | str
    error: str


class Summary(msgspec.Struct, frozen=True):
    """What a job did."""

    output: str
    ensemble: str
    model_version: str
    width: int
    count: int
    embedded: int
    empty: int  # lines
    failed: int
    seconds: float
    per_second: float
    errors: tuple[Failure, ...]  # the first MAX_ERRORS_TOLD


Progress = Callable[[int, int], None]  # rows written, rows in all


async def embed_texts(
    source: Path,
    out: Path,
    address: str,
    *,
    kind: TextEncoder = "sentence",
    role: Role = "passage",
    profile: str = "",
    limits: Limits | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Summary:
    """Embed every line of a file.

    Args:
        source: UTF-8, one text a line.
        out: ends in .npy or .parquet; replaced once everything is embedded, else left as it was.
        address: Triton's gRPC address, HOST:PORT.
        kind: which encoder.
        role: what the texts are.
        profile: names the model version, where it is known: a server does not tell it.
        limits: of memory and of what is asked of the server.
        progress: told after each window.

    Raises:
        InvalidRequest: the source cannot be used at all, or the output is not one.
        Unavailable, Overloaded: the server stayed away.
        StorageFull: the disk has no room.
    """
    check_output(out)
    total = count_lines(source)
    async with text_encoder(address, kind, role) as encoder:
        job = _Job(_named(encoder, profile), out, total, progress, numbered=True)
        return await job.run(read_lines(source), limits)


async def embed_images(
    source: Path,
    out: Path,
    address: str,
    *,
    profile: str = "",
    limits: Limits | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Summary:
    """Embed every image of a folder and those below; the rest is as in `embed_texts`."""
    check_output(out)
    total = count_images(source)
    async with image_encoder(address) as encoder:
        job = _Job(_named(encoder, profile), out, total, progress, numbered=False)
        return await job.run(read_images(source), limits)


def _named(encoder: Encoder, profile: str) -> Encoder:
    if not profile:
        return encoder
    return replace(encoder, bundle=msgspec.structs.replace(encoder.bundle, profile=profile))


class _Job:
    """One source on its way into one output."""

    def __init__(
        self, encoder: Encoder, out: Path, total: int, progress: Progress, *, numbered: bool
    ) -> None:
        self._encoder, self._out, self._total = encoder, out, total
        self._progress, self._numbered = progress, numbered
        self._count = self._empty = self._failed = 0
        self._errors: list[Failure] = []

    async def run(self, items: Iterable[Item], limits: Limits | None) -> Summary:
        encoder, model_version = self._encoder, self._encoder.bundle.id
        start = time.perf_counter()
        with open_output(
            self._out, encoder.width, model_version, numbered=self._numbered
        ) as output:

            def write(rows: Sequence[Row]) -> None:
                output.write(rows)
                self._tally(rows)

            await embed_all(encoder, items, write, limits)
        seconds = time.perf_counter() - start
        return Summary(
            output=str(self._out),
            ensemble=encoder.ensemble,
            model_version=model_version,
            width=encoder.width,
            count=self._count,
            embedded=self._count - self._empty - self._failed,
            empty=self._empty,
            failed=self._failed,
            seconds=round(seconds, 3),
            per_second=round(self._count / seconds, 1),
            errors=tuple(self._errors),
        )

    def _tally(self, rows: Sequence[Row]) -> None:
        failed = [row for row in rows if row.error and row.error != EMPTY_LINE]
        self._count += len(rows)
        self._failed += len(failed)
        self._empty += sum(row.error == EMPTY_LINE for row in rows)
        room = MAX_ERRORS_TOLD - len(self._errors)
        self._errors += [Failure(row.id, row.error) for row in failed[:room]]
        self._progress(self._count, self._total)


def count_lines(path: Path) -> int:
    """Count a file's lines; the last one needs no line feed.

    Raises:
        InvalidRequest: the file cannot be read, is empty, or is UTF-16.
    """
    lines, last = 0, b""
    try:
        with path.open("rb") as file:
            if file.read(2) in UTF16_BOMS:
                raise InvalidRequest(f"{path} is UTF-16; write it as UTF-8")
            file.seek(0)
            while block := file.read(BLOCK_BYTES):
                lines += block.count(b"\n")
                last = block[-1:]
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    if not last:
        raise InvalidRequest(f"{path} is empty: there is nothing to embed")
    return lines + (last != b"\n")


def read_lines(path: Path) -> Iterator[Item]:
    """Read one text a line; what cannot be used becomes an item with an error.

    Ids are line numbers from 1. No line is ever held that is longer than a text may be.
    """
    with path.open("rb") as file:
        if file.read(len(UTF8_BOM)) != UTF8_BOM:
            file.seek(0)
        number = 0
        while line := file.readline(MAX_TEXT_BYTES + len(b"\r\n")):
            number += 1
            raw = line.rstrip(b"\r\n")
            yield _text(number, raw, len(raw) + _skip_rest(file, line))


def _skip_rest(file: IO[bytes], line: bytes) -> int:
    """Read over what is left of a line; returns its bytes."""
    size = 0
    while line and not line.endswith(b"\n"):
        line = file.readline(BLOCK_BYTES)
        size += len(line.rstrip(b"\r\n"))
    return size


def _text(number: int, raw: bytes, size: int) -> Item:
    if size > MAX_TEXT_BYTES:
        return Item(
            number, "", error=f"the text has {size:,} bytes; at most {MAX_TEXT_BYTES:,} are taken"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return Item(number, "", error=f"the line is not UTF-8 (byte {error.start + 1} of it)")
    if not text.strip():
        return Item(number, "", error=EMPTY_LINE)
    return Item(number, text, padded_tokens(text))


def count_images(folder: Path) -> int:
    """Count the images of a folder; raises `InvalidRequest` where there is none."""
    found = sum(1 for _ in _image_paths(folder))
    if not found:
        raise InvalidRequest(f"{folder}: no image ({', '.join(sorted(IMAGE_SUFFIXES))}) in it")
    return found


def read_images(folder: Path) -> Iterator[Item]:
    """Walk a folder and those below, by name; ids are paths relative to it."""
    for path in _image_paths(folder):
        name = str(path.relative_to(folder)).encode(errors="backslashreplace").decode()
        try:
            status = path.stat()
        except OSError as error:
            yield Item(name, path, error=f"cannot be read: {error.strerror}")
            continue
        yield Item(name, path, padded_bytes(status.st_size), error=_unusable(status))


def _unusable(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "is not a file"
    if status.st_size > MAX_IMAGE_BYTES:
        return f"has {status.st_size:,} bytes; at most {MAX_IMAGE_BYTES:,} are taken"
    return "" if status.st_size else "the file is empty"


def _image_paths(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(parent, name)


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
