"""Near-duplicates in a running stack: copies of a made-up set's videos, and what they are near."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

from ensembles.arrays import FloatArray
from gateway.catalogue.catalogue import Catalogue
from gateway.commands.local import local_settings
from gateway.doors import open_doors
from gateway.index.inventory import batches
from gateway.schemas import LegName
from gateway.search.arrange import COMPARED_LEGS
from gateway.search.similar import Vectors
from gateway.settings import Settings
from loadtest.copies import write_copies
from loadtest.duplicates import DuplicatesReport, least_of_copies, least_of_others, rates_of
from loadtest.gathering import PIX, creator_of, moments_of, right_segments
from loadtest.stack import MeasuredStack
from training.evaluation.evaluate import Progress, ingest, written_set

READ_TIMEOUT_S = 30.0
IDS_A_READ = 500


def bench_duplicates(
    stack: MeasuredStack, seed: int, segments: int, files: int, progress: Progress
) -> DuplicatesReport:
    """Ingest a made-up set and copies of its first files; return what is taken for the same.

    Args:
        stack: a running one.
        seed: of the set.
        segments: how many it has.
        files: how many of its files are written again.
        progress: told of each step.

    Raises:
        PixserveError: a video could not be ingested, or Milvus does not answer.
    """
    folder = stack.data_dir / "evaluation"
    written = written_set(folder, seed, segments, progress)
    paths = sorted({one.video for one in written})
    originals = ingest(stack.gateway, paths, creator_of(seed, segments), PIX, progress).ids
    progress("writing the copies", 0, 1)
    name = f"copies-{seed}-{segments}"
    again = [str(path) for path in write_copies(folder / name, map(Path, paths[:files]))]
    copies = ingest(stack.gateway, again, f"{name}-{PIX}", PIX, progress).ids
    copy_of = {path: copies[copy] for path, copy in zip(paths, again, strict=False)}
    settings = local_settings(stack.data_dir)
    moments = moments_of([one for one in written if one.video in copy_of])
    here = right_segments(settings, moments, originals)
    there = right_segments(settings, moments, copy_of)
    pairs = [(sorted(here[one.name]), sorted(there[one.name])) for one in moments]
    ids = _segment_ids(settings, originals.values())
    progress("reading vectors", 0, 1)
    read = [*ids, *(segment_id for _, found in pairs for segment_id in found)]
    version, vectors = asyncio.run(_read_vectors(settings, read))
    others = least_of_others(ids, vectors)
    return DuplicatesReport(
        model_version=version,
        seed=seed,
        segments=len(ids),
        copies=len(pairs),
        others=len(others),
        rates=rates_of(least_of_copies(pairs, vectors), others),
    )


def _segment_ids(settings: Settings, video_ids: Iterable[str]) -> list[str]:
    catalogue = Catalogue(settings.database_url)
    try:
        return [one.segment_id for video in video_ids for one in catalogue.segments_of(video)]
    finally:
        catalogue.close()


async def _read_vectors(settings: Settings, ids: Sequence[str]) -> tuple[str, Vectors]:
    """Return the bundle that is served, and the segments' vectors of each leg."""
    doors = open_doors(settings)
    try:
        found: dict[LegName, dict[str, FloatArray]] = {leg: {} for leg in COMPARED_LEGS}
        for leg in COMPARED_LEGS:
            for batch in batches(ids, IDS_A_READ):
                found[leg] |= await doors.milvus.stored.vectors(
                    doors.bundle, leg, batch, timeout_s=READ_TIMEOUT_S
                )
        return doors.bundle.id, found
    finally:
        await doors.close()
