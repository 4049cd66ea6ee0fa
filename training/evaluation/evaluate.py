"""The evaluation through the real stack: files are written, ingested and searched over HTTP."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Lock, local
from typing import Self

import msgspec

from gateway.client import Client
from gateway.errors import InvalidRequest, PixserveError
from gateway.schemas import Filters, LegName, LegWeights, SearchRequest, VideoMetadata
from training.corpus import evaluation_set
from training.evaluation.report import (
    SEARCH,
    EvalReport,
    Question,
    Ranking,
    answer_rank,
    gains_of,
    rankings_of,
    rows_of,
)
from training.world.videos import BOUNDARIES, Written, read_boundaries, write_videos

IN_FLIGHT = 4  # uploads, or searches, at once
DEADLINE_MS = 30_000  # of a search: the answers are measured, not their speed
CLIENT_TIMEOUT_S = 60.0
PAGE = 100  # hits that are looked through
LEGS: tuple[LegName, ...] = ("visual", "sound", "speech", "keyword", "fused")

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


class Ingested(msgspec.Struct, frozen=True):
    """The videos of a set as the stack has them."""

    ids: dict[str, str]  # by file name
    segments: int  # of all of them


def written_set(folder: Path, seed: int, segments: int, progress: Progress) -> list[Written]:
    """Return the evaluation set in a folder, writing its files where that was not done yet."""
    here = folder / f"seed-{seed}-segments-{segments}"
    if not (here / BOUNDARIES).is_file():  # it is written last
        progress("drawing the segments", 0, 1)
        described = evaluation_set(seed, segments)
        progress("writing the videos", 0, 1)
        write_videos(here, described)
    return [
        msgspec.structs.replace(written, video=str(here / written.video))
        for written in read_boundaries(here)
    ]


def questions_of(written: Sequence[Written]) -> list[Question]:
    """Return every caption of a set as a question; its name says its kind and its segment."""
    return [
        Question(
            name=f"{kind} {Path(one.video).name} {one.start_s:g}",
            kind=kind,  # type: ignore[arg-type] # the file says it as text
            text=text,
            video=one.video,
            start_s=one.start_s,
            end_s=one.end_s,
        )
        for one in written
        for kind, text in one.captions.items()
    ]


def evaluate(
    url: str,
    folder: Path,
    progress: Progress,
    *,
    seed: int,
    segments: int,
    pix: int,
) -> EvalReport:
    """Ask a running stack every caption of the evaluation set.

    Args:
        url: of the gateway.
        folder: where the set's files are kept.
        progress: told of each step.
        seed: of the set.
        segments: how many it has.
        pix: invested in each video: with more, more frames are looked at.

    Raises:
        PixserveError: a video could not be ingested, or a search failed.
    """
    written = written_set(folder, seed, segments, progress)
    questions = questions_of(written)
    creator = f"evaluation-{seed}-{segments}-{pix}"
    ingested = ingest(url, sorted({one.video for one in written}), creator, pix, progress)
    with Asker(url, Filters(creator_id=(creator,))) as asker:
        legs = asker.legs(questions[0].text)
        ranks = ask_all(asker, questions, ingested.ids, legs, progress)
    return EvalReport(
        model_version=asker.model_version,
        seed=seed,
        segments=segments,
        indexed_segments=ingested.segments,
        pix=pix,
        degraded=asker.degraded,
        rows=tuple(rows_of(questions, ranks)),
        gains=tuple(gains_of(questions, ranks)),
        ranks=ranks,
    )


def ingest(url: str, paths: Sequence[str], creator: str, pix: int, progress: Progress) -> Ingested:
    """Send videos with the transcripts beside them and wait until all can be searched.

    Raises:
        PixserveError: one could not be ingested.
    """
    stop = Event()
    done = 0
    ids: dict[str, str] = {}
    segments = 0
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        try:
            for path, (video_id, count) in zip(
                paths,
                pool.map(lambda path: _ingest_one(url, path, creator, pix, stop), paths),
                strict=True,
            ):
                ids[path] = video_id
                segments += count
                done += 1
                progress("ingesting", done, len(paths))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return Ingested(ids, segments)


def ask_all(
    asker: "Asker",
    questions: Sequence[Question],
    ids: Mapping[str, str],
    legs: Sequence[LegName],
    progress: Progress,
) -> dict[Ranking, dict[str, int]]:
    """Ask every question of every ranking that may know it; returns the right answers' ranks."""
    ranks: dict[Ranking, dict[str, int]] = {}

    def ask(question: Question) -> dict[Ranking, int]:
        return {
            ranking: asker.rank(question, ranking, ids[question.video])
            for ranking in rankings_of(question.kind, legs)
        }

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        try:
            for done, (question, found) in enumerate(
                zip(questions, pool.map(ask, questions), strict=True), 1
            ):
                for ranking, rank in found.items():
                    ranks.setdefault(ranking, {})[question.name] = rank
                progress("searching", done, len(questions))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return ranks


class Asker:
    """Searches among some videos; for any number of threads, as a context manager.

    Args:
        url: of the gateway.
        filters: what the videos are.
    """

    def __init__(self, url: str, filters: Filters) -> None:
        self.model_version = ""
        self.degraded = 0
        self._url = url
        self._filters = filters
        self._mine = local()  # a client is for one thread at a time
        self._lock = Lock()
        self._clients = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clients.close()

    def legs(self, text: str) -> tuple[LegName, ...]:
        """Return the legs that can answer words in this stack."""
        return tuple(leg for leg in LEGS if self._has(leg, text))

    def rank(self, question: Question, ranking: Ranking, video_id: str) -> int:
        """Return the rank of a question's right answer, MISSED where it is not on the page."""
        reply = self._client().search(self._request(question.text, ranking))
        with self._lock:
            self.model_version = reply.model_version
            self.degraded += bool(reply.degraded)
        return answer_rank(reply.hits, ranking, video_id, question)

    def _has(self, leg: LegName, text: str) -> bool:
        try:
            self._client().search(self._request(text, leg))
        except InvalidRequest:  # no leg with a weight can answer
            return False
        return True

    def _request(self, text: str, ranking: Ranking) -> SearchRequest:
        weights = None if ranking == SEARCH else LegWeights(**{ranking: 1.0})
        return SearchRequest(
            query=text,
            weights=weights,
            group="segment",
            limit=PAGE,
            filters=self._filters,
            cutoff=0.0,  # how far down an answer stands is measured, not whether it is shown
            deadline_ms=DEADLINE_MS,
        )

    def _client(self) -> Client:
        if not hasattr(self._mine, "client"):
            with self._lock:
                self._mine.client = self._clients.enter_context(Client(self._url, CLIENT_TIMEOUT_S))
        client: Client = self._mine.client
        return client


def _ingest_one(url: str, path: str, creator: str, pix: int, stop: Event) -> tuple[str, int]:
    """Send a video and wait for it; returns its id and how many segments it has."""
    file = Path(path)
    transcript = file.with_suffix(".srt")
    metadata = VideoMetadata(title=file.stem, creator_id=creator, pix=pix)
    with Client(url, CLIENT_TIMEOUT_S) as client:
        sent = client.upload(file, metadata, transcript if transcript.is_file() else None)
        job = client.wait(sent.job_id, stop=stop)
        if job.state != "succeeded":
            raise PixserveError(f"ingest of {file.name} {job.state}: {job.error or job.stage}")
        return sent.video_id, client.video(sent.video_id).segments
