"""What a bulk ingest is to take in: the files of a folder, or the rows of a manifest.

A manifest is a file of JSON lines or a Parquet file. A row has `path`, relative to the manifest,
and may have `transcript` and each field of an upload's metadata.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from gateway.api.filenames import MEDIA_SUFFIXES, TRANSCRIPT_SUFFIXES
from gateway.errors import ConfigurationError, InvalidRequest
from gateway.schemas import VideoMetadata

MANIFEST_SUFFIXES = frozenset({".jsonl", ".parquet"})
MAX_LINE_BYTES = 64 * 1024
MAX_PATH_CHARS = 4_096
PARQUET_ROWS = 1_000  # read at once


@dataclass(frozen=True)
class Item:
    """One file to be taken in."""

    path: Path
    metadata: VideoMetadata
    transcript: Path | None


def read_items(paths: Sequence[Path], defaults: VideoMetadata) -> Iterator[Item]:
    """Yield what files, folders and manifests name, in their order.

    Args:
        paths: each a media file, a folder that is searched for them, or a manifest.
        defaults: the metadata of what says nothing else; without a title, the file's name is it.

    Raises:
        InvalidRequest: a path is not there, a folder has no media file, or a row is wrong.
        ConfigurationError: a Parquet manifest needs a package that is not installed.
    """
    return chain.from_iterable(_items(path, defaults) for path in paths)


def _items(path: Path, defaults: VideoMetadata) -> Iterator[Item]:
    if path.is_dir():
        return _folder(path, defaults)
    if not path.is_file():
        raise InvalidRequest(f"{path}: there is no such file or folder")
    match path.suffix.lower():
        case ".jsonl":
            return _json_lines(path, defaults)
        case ".parquet":
            return _parquet(path, defaults)
        case _:
            return iter([_file(path, defaults)])


def _file(path: Path, defaults: VideoMetadata) -> Item:
    return Item(path, titled(path, defaults), beside(path))


def titled(path: Path, metadata: VideoMetadata) -> VideoMetadata:
    """Return metadata that have a title: the file's name where none was given."""
    return metadata if metadata.title else msgspec.structs.replace(metadata, title=path.stem[:200])


def beside(path: Path) -> Path | None:
    """Return the transcript that lies beside a file under the same name."""
    candidates = (path.with_suffix(suffix) for suffix in sorted(TRANSCRIPT_SUFFIXES))
    return next((file for file in candidates if file.is_file()), None)


def _folder(path: Path, defaults: VideoMetadata) -> Iterator[Item]:
    inside = (file for file in sorted(path.rglob("*")) if file.is_file())
    found = [file for file in inside if file.suffix.lower() in MEDIA_SUFFIXES]
    if not found:
        raise InvalidRequest(f"{path}: no video or sound file in this folder")
    return (_file(file, defaults) for file in found)


# ---- manifests ----------------------------------------------------------------------------------


def _json_lines(path: Path, defaults: VideoMetadata) -> Iterator[Item]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            where = f"{path}, line {number}"
            if len(line) > MAX_LINE_BYTES:
                raise InvalidRequest(f"{where} is over {MAX_LINE_BYTES:,} bytes")
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise InvalidRequest(f"{where} is no JSON object: {error}") from error
            yield _row(path.parent, where, row, defaults)


def _parquet(path: Path, defaults: VideoMetadata) -> Iterator[Item]:
    try:  # optional, and without types
        arrow, parquet = map(importlib.import_module, ("pyarrow", "pyarrow.parquet"))
    except ImportError as error:
        raise ConfigurationError(
            "a Parquet manifest needs pyarrow: pip install 'pixserve[parquet]'"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    given = {name: value for name, value in row.items() if value is not None}
                    yield _row(path.parent, f"{path}, row {number}", given, defaults)
    except (arrow.lib.ArrowException, OSError) as error:
        raise InvalidRequest(f"{path} is no Parquet file that can be read: {error}") from error


def _row(folder: Path, where: str, row: Mapping[str, Any], defaults: VideoMetadata) -> Item:
    """Return what a row names; its own metadata go before the defaults."""
    given = dict(row)
    file = _path(folder, where, given, "path")
    if file is None:
        raise InvalidRequest(f'{where}: expected a text "path", the file\'s')
    transcript = _path(folder, where, given, "transcript")
    try:
        metadata = msgspec.convert(msgspec.to_builtins(defaults) | given, VideoMetadata)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{where}: {error}") from error
    return Item(file, titled(file, metadata), transcript or beside(file))


def _path(folder: Path, where: str, given: dict[str, Any], field: str) -> Path | None:
    """Take a path out of a row, relative to the manifest's folder."""
    value = given.pop(field, None)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_PATH_CHARS or "\0" in value:
        raise InvalidRequest(f"{where}: {field} is no path: {str(value)[:100]!r}")
    path = folder / value
    if not path.is_file():
        raise InvalidRequest(f"{where}: {field}: there is no file {value[:200]!r}")
    return path
