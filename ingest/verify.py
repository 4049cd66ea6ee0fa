"""Compares catalogue, index and disk with each other, in both directions, while they are in use.

A video that a job works on is passed over; what looks wrong is looked at twice, because a job may
have ended between two looks.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from ensembles.bundle import Bundle
from gateway.api.incoming import is_locked, remove_unlocked, subfolders
from gateway.catalogue.analyses import VideoRecord
from gateway.catalogue.catalogue import Catalogue
from gateway.errors import ConfigurationError, NotFound
from gateway.index.inventory import batches
from gateway.index.milvus import Milvus
from gateway.schemas import LegName
from gateway.settings import Settings
from ingest.consistency import Finding, compare, expected_rows
from ingest.tokens import Tokens, read_tokens, tokens_path

VIDEOS_AT_ONCE = 20  # whose rows one query reads
READ_S = 30.0  # for one query
REINDEX_PRIORITY = -10  # uploads come first

Progress = Callable[[str, int], None]  # what is being compared, and how many were

Rows = Mapping[LegName, Mapping[str, set[str]]]  # leg → video → its segments


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison came to."""

    bundle: str
    videos: int  # searchable ones that were compared
    busy: int  # passed over, because a job works on them
    rows: dict[str, int]  # of the index, by leg
    findings: tuple[Finding, ...]


async def verify(
    settings: Settings, catalogue: Catalogue, milvus: Milvus, bundle: Bundle, progress: Progress
) -> Verified:
    """Compare everything; change nothing.

    Args:
        settings: where the files are.
        catalogue: the truth.
        milvus: the index.
        bundle: whose collections are compared; those of other bundles are not looked at.
        progress: told what is being compared.

    Raises:
        Unavailable: Milvus or the catalogue does not answer.
    """
    check = _Check(settings, catalogue, milvus, bundle, await milvus.legs(timeout_s=READ_S))
    findings: list[Finding] = []
    compared = busy = 0
    for ids in batches(catalogue.library.ready_ids(), VIDEOS_AT_ONCE):
        idle = [video_id for video_id in ids if not catalogue.jobs.is_running(video_id)]
        rows = await check.rows_of(idle)
        for video_id in idle:
            doubts = check.video(video_id, rows)
            if doubts:
                doubts = check.video(video_id, await check.rows_of([video_id]))
            findings.extend(doubts)
        compared, busy = compared + len(idle), busy + len(ids) - len(idle)
        progress("videos", compared)
    orphans, counts = await check.orphan_rows(progress)
    findings += orphans + check.orphan_folders()
    return Verified(
        bundle=bundle.id, videos=compared, busy=busy, rows=counts, findings=tuple(findings)
    )


async def repair(
    verified: Verified, settings: Settings, catalogue: Catalogue, milvus: Milvus
) -> tuple[str, ...]:
    """Mend what was found: remove orphans, and queue the videos to be indexed again.

    A video whose file is gone cannot be mended; its rows stay as they are.

    Returns:
        The ids of the jobs.
    """
    broken: list[str] = []
    for finding in verified.findings:
        match finding.kind:
            case "orphan rows":
                await milvus.inventory.erase_video(finding.video_id, timeout_s=READ_S)
            case "orphan folder":
                remove_unlocked(settings.videos_dir / finding.video_id)
            case "missing rows" | "surplus rows" | "no tokens":
                broken.append(finding.video_id)
    ids = tuple(dict.fromkeys(broken))
    jobs = catalogue.control.enqueue(ids, "reindex", REINDEX_PRIORITY)
    return tuple(job.id for job in jobs)


class _Check:
    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        milvus: Milvus,
        bundle: Bundle,
        legs: Sequence[LegName],
    ) -> None:
        self._folder = settings.videos_dir
        self._catalogue = catalogue
        self._inventory = milvus.inventory
        self._bundle = bundle
        self._legs = legs

    async def rows_of(self, video_ids: Sequence[str]) -> Rows:
        """Return what the index has of some videos."""
        if not video_ids:
            return {leg: {} for leg in self._legs}
        return {
            leg: await self._inventory.ids_of(self._bundle, leg, video_ids, timeout_s=READ_S)
            for leg in self._legs
        }

    def video(self, video_id: str, rows: Rows) -> list[Finding]:
        """Compare one video with its rows and its files."""
        try:
            record = self._catalogue.analyses.record(video_id)
        except NotFound:
            return []  # deleted meanwhile
        if record.state != "ready":
            return []
        folder = self._folder / video_id
        findings: list[Finding] = []
        if not (folder / record.source_name).is_file():
            findings.append(Finding(kind="no file", video_id=video_id, detail=record.source_name))
        tokens = self._tokens(record, folder, findings)
        expected = expected_rows(record, self._catalogue.segments_of(video_id), tokens)
        found = {leg: rows[leg].get(video_id, set()) for leg in self._legs}
        return [*findings, *compare(video_id, expected, found)]

    async def orphan_rows(self, progress: Progress) -> tuple[list[Finding], dict[str, int]]:
        """Return the rows of videos that the catalogue does not have, and how many there are."""
        findings: list[Finding] = []
        counts: dict[str, int] = {}
        for leg in self._legs:
            strangers: Counter[str] = Counter()
            counts[leg] = 0
            async for page in self._inventory.rows(self._bundle, leg, timeout_s=READ_S):
                states = self._catalogue.library.states({video_id for _, video_id in page})
                strangers.update(v for _, v in page if states.get(v, "failed") == "failed")
                counts[leg] += len(page)
                progress(f"rows of {leg}", counts[leg])
            findings += [
                Finding(kind="orphan rows", video_id=video_id, leg=leg, rows=rows)
                for video_id, rows in sorted(strangers.items())
            ]
        return findings, counts

    def orphan_folders(self) -> list[Finding]:
        """Return the folders of videos that the catalogue does not have and no upload fills."""
        folders = {folder.name: folder for folder in subfolders(self._folder)}
        known = self._catalogue.library.known(folders)
        return [
            Finding(kind="orphan folder", video_id=name)
            for name in sorted(folders.keys() - known)
            if not is_locked(folders[name])
        ]

    def _tokens(self, record: VideoRecord, folder: Path, findings: list[Finding]) -> Tokens | None:
        try:
            return read_tokens(tokens_path(folder, self._bundle.id), self._bundle)
        except ConfigurationError:
            why = "missing, damaged, or of another bundle"
            findings.append(Finding(kind="no tokens", video_id=record.id, detail=why))
            return None
