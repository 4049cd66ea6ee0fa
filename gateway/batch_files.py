"""Batch jobs from file to file: lines or a folder of images in, .npy or .parquet out."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from ensembles.contracts import TextEncoder
from gateway.batch import Limits, Row, embed_all
from gateway.batch_encoders import Encoder, image_encoder, text_encoder
from gateway.batch_outputs import check_output, open_output
from gateway.batch_plan import Item
from gateway.batch_sources import EMPTY_LINE, count_images, count_lines, read_images, read_lines
from gateway.triton_wire import Role

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
