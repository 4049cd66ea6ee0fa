"""A captioned folder: its list read and checked, its images as the vision encoder reads them.

The folder holds images and `captions.jsonl`, a line of which is
`{"file": "kites/1.jpg", "caption": "a red kite"}`. Pixels go through the code that serves them.
"""

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from ensembles.arrays import UInt8Array
from ensembles.contracts import MAX_IMAGE_BYTES, MAX_TEXT_BYTES
from ensembles.pipelines import FrameFitter
from gateway.errors import InvalidRequest, MediaRefused, NotFound, TooLarge
from ingest.decode import decode_image

CAPTIONS_FILE = "captions.jsonl"
MAX_IMAGES = 200_000
MAX_LISTED = 10  # files in a message
FITTED_AT_ONCE = 16  # images


class Captioned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image and what it shows; an image may have several captions, one a line."""

    file: Annotated[str, Meta(min_length=1, max_length=1_024)]  # relative to the folder
    caption: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_BYTES)]


class Captions(msgspec.Struct, frozen=True):
    """A captioned folder, read."""

    files: tuple[str, ...]
    captions: tuple[str, ...]
    pairs: list[tuple[int, int]]  # a caption and a file


def read_captions(folder: Path, listed: Path | None = None) -> Captions:
    """Read a captioned folder's list.

    Args:
        folder: of the images.
        listed: the file of captions; None: CAPTIONS_FILE in the folder.

    Raises:
        InvalidRequest: it is missing, empty or malformed, or names a file outside the folder.
        NotFound: it names images that are not there; some are listed.
        TooLarge: too many images.
    """
    path = listed or folder / CAPTIONS_FILE
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    rows = [_captioned(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InvalidRequest(
            f'{path} is empty: a line of it is {{"file": "1.jpg", "caption": "a red kite"}}'
        )
    files = tuple(dict.fromkeys(row.file for row in rows))
    captions = tuple(dict.fromkeys(row.caption for row in rows))
    if len(files) > MAX_IMAGES:
        raise TooLarge(f"{path} names {len(files)} images, {MAX_IMAGES} are allowed")
    _check_files(folder, files)
    file_at = {file: at for at, file in enumerate(files)}
    caption_at = {caption: at for at, caption in enumerate(captions)}
    pairs = dict.fromkeys((caption_at[row.caption], file_at[row.file]) for row in rows)
    return Captions(files, captions, list(pairs))


def load_pixels(source: Path, files: tuple[str, ...], size_px: int) -> UInt8Array:
    """Return images as the vision encoder reads them: (images, 3, size, size) uint8.

    Raises:
        MediaRefused: one cannot be decoded; the message names it.
        TooLarge: one has over MAX_IMAGE_BYTES bytes.
    """
    fitter = FrameFitter(size_px)
    pixels = np.empty((len(files), 3, size_px, size_px), np.uint8)
    for start in range(0, len(files), FITTED_AT_ONCE):
        part = files[start : start + FITTED_AT_ONCE]
        pixels[start : start + len(part)] = fitter([_decoded(source / file) for file in part])
    return pixels


def _decoded(path: Path) -> UInt8Array:
    if path.stat().st_size > MAX_IMAGE_BYTES:
        raise TooLarge(f"{path} is larger than the {MAX_IMAGE_BYTES} bytes that are allowed")
    try:
        return decode_image(path.read_bytes())
    except MediaRefused as error:
        raise MediaRefused(error.reason, f"{path}: {error.message}") from error


def _captioned(path: Path, number: int, line: bytes) -> Captioned:
    try:
        return msgspec.json.decode(line, type=Captioned)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path}, line {number} is no caption: {error}") from error


def _check_files(folder: Path, files: tuple[str, ...]) -> None:
    root = folder.resolve()
    outside = [file for file in files if not (root / file).resolve().is_relative_to(root)]
    if outside:
        raise InvalidRequest(f"{CAPTIONS_FILE} names a file outside its folder: {outside[0]!r}")
    missing = [file for file in files if not (root / file).is_file()]
    if missing:
        more = f" and {len(missing) - MAX_LISTED} more" if len(missing) > MAX_LISTED else ""
        raise NotFound(
            f"{folder} lacks {len(missing)} of {len(files)} images: "
            f"{', '.join(missing[:MAX_LISTED])}{more}"
        )
