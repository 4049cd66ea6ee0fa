"""The made-up set as pairs of captions and indexed segments, to train and compare fusions on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.catalogue.catalogue import Catalogue
from training.evaluation.evaluate import Progress, ingest, questions_of, written_set
from training.evaluation.report import Question, is_over
from training.tuning.pairs import Pair


def set_pairs(
    url: str,
    catalogue: Catalogue,
    folder: Path,
    progress: Progress,
    *,
    seed: int,
    segments: int,
    pix: int,
) -> list[Pair]:
    """Ingest a set and return each caption with the segment that it describes.

    Args:
        url: of the gateway.
        catalogue: of the same stack.
        folder: where the set's files are kept.
        progress: told of each step.
        seed: of the set.
        segments: how many it has.
        pix: invested in each video.

    Raises:
        PixserveError: a video could not be ingested.
    """
    questions = questions_of(written_set(folder, seed, segments, progress))
    videos = sorted({question.video for question in questions})
    ids = ingest(url, videos, f"pairs-{seed}-{segments}-{pix}", pix, progress).ids
    return [
        pair
        for video in videos
        for pair in _pairs([q for q in questions if q.video == video], ids[video], catalogue)
    ]


def _pairs(questions: Sequence[Question], video_id: str, catalogue: Catalogue) -> Iterator[Pair]:
    found = catalogue.segments(catalogue.analyses.segment_ids(video_id)).values()
    for question in questions:
        for segment in found:
            if is_over(question, segment.start_s, segment.end_s):
                yield Pair(question.text, segment.segment_id)
