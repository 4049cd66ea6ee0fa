"""What a batch job reads: the lines of a file, the images of a folder. Both stream."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ensembles.contracts import MAX_IMAGE_BYTES, MAX_TEXT_BYTES
from gateway.batch_plan import Item, padded_bytes, padded_tokens
from gateway.errors import InvalidRequest

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
EMPTY_LINE = "the line is empty"
BLOCK_BYTES = 1024 * 1024
UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


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
