"""Does more PIX find more: long videos in which little happens, and briefly, at rising PIX.

Each video is a row of scenes of its own background; in each one a figure shows up for a moment.
Without PIX one frame in five seconds is looked at, which mostly misses it.
"""

from dataclasses import replace
from pathlib import Path
from random import Random

import msgspec

from gateway.schemas import Filters
from training.corpus import Described, evaluation_set
from training.evaluation.bootstrap import Measures, measure
from training.evaluation.evaluate import Asker, Progress, ask_all, ingest
from training.evaluation.report import SEARCH, Question, Ranking
from training.world.captions import Kind
from training.world.scenes import SEGMENT_S, Segment
from training.world.videos import write_video

BUDGETS_PIX = (0, 10, 100, 1_000)
SCENE_S = 20.0
EVENT_S = 1.5  # how long a figure is there
SCENES_A_VIDEO = 8
MARGIN_S = 0.5  # between an event and the ends of its segment
FPS_TICK_S = 0.1  # the frames' distance: events begin on one
KINDS: tuple[Kind, ...] = ("object", "colour")  # what one frame can tell
HIDDEN = ("camera", "motion")  # what no frame of a brief event can tell
SET_FILE = "questions.json"


class BudgetRow(msgspec.Struct, frozen=True):
    """What was found at one PIX budget."""

    pix: int
    ranking: Ranking
    measures: Measures


class PixReport(msgspec.Struct, frozen=True, kw_only=True):
    """Recall by PIX budget."""

    model_version: str
    seed: int
    videos: int
    duration_s: float  # of each
    events: int
    rows: tuple[BudgetRow, ...]


def evaluate_pix(
    url: str, folder: Path, progress: Progress, *, seed: int, videos: int
) -> PixReport:
    """Ingest the same long videos at each PIX budget and ask for their events.

    Args:
        url: of the gateway.
        folder: where the files are kept.
        progress: told of each step.
        seed: of the videos.
        videos: how many.

    Raises:
        PixserveError: a video could not be ingested, or a search failed.
    """
    questions = long_videos(folder / f"long-{seed}-{videos}", seed, videos, progress)
    rows = []
    for pix in BUDGETS_PIX:
        creator = f"pix-{seed}-{videos}-{pix}"
        paths = sorted({question.video for question in questions})
        ids = ingest(url, paths, creator, pix, progress).ids
        with Asker(url, Filters(creator_id=(creator,))) as asker:
            legs = asker.legs(questions[0].text)
            ranks = ask_all(asker, questions, ids, legs, progress)
            version = asker.model_version
        rows += [
            BudgetRow(pix, ranking, measure(list(ranks[ranking].values())))
            for ranking in ("visual", "fused", SEARCH)
            if ranking in ranks
        ]
    return PixReport(
        model_version=version,
        seed=seed,
        videos=videos,
        duration_s=SCENES_A_VIDEO * SCENE_S,
        events=videos * SCENES_A_VIDEO,
        rows=tuple(rows),
    )


def long_videos(folder: Path, seed: int, videos: int, progress: Progress) -> list[Question]:
    """Return the questions of the long videos, writing the files where they are missing."""
    stored = folder / SET_FILE  # written last
    if not stored.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        questions = []
        described = evaluation_set(seed, videos * SCENES_A_VIDEO)
        rng = Random(seed)  # noqa: S311 (reproducible on purpose)
        for number in range(videos):
            progress("writing the videos", number, videos)
            mine = described[number * SCENES_A_VIDEO : (number + 1) * SCENES_A_VIDEO]
            starts_s = [_event_start_s(rng) for _ in mine]
            path = folder / f"long-{number:03}.mp4"
            scenes = zip(mine, starts_s, strict=True)
            write_video(path, [part for one, start_s in scenes for part in scene(one, start_s)])
            questions += _questions(path, mine, starts_s)
        stored.write_bytes(msgspec.json.encode(questions))
    found = msgspec.json.decode(stored.read_bytes(), type=list[Question])
    return [msgspec.structs.replace(q, video=str(folder / Path(q.video).name)) for q in found]


def scene(described: Described, start_s: float) -> tuple[Segment, ...]:
    """Return a scene in three parts: its background, the figure before it, its background.

    Args:
        described: what shows up; it is still and silent here, and so is the camera.
        start_s: when, within the scene.
    """
    look = replace(described.segment.look, camera="static", motion="still")
    empty = replace(look, figure=None, companion=None)
    after_s = SCENE_S - EVENT_S - start_s
    return (
        Segment(empty, None, None, start_s),
        Segment(look, None, None, EVENT_S),
        Segment(empty, None, None, after_s),
    )


def _event_start_s(rng: Random) -> float:
    """Draw when an event begins: on a frame, and within one cell of the segments' grid."""
    cell = rng.randrange(round(SCENE_S / SEGMENT_S))
    latest_s = SEGMENT_S - EVENT_S - MARGIN_S
    ticks = rng.randint(round(MARGIN_S / FPS_TICK_S), round(latest_s / FPS_TICK_S))
    return round(cell * SEGMENT_S + ticks * FPS_TICK_S, 1)


def _questions(path: Path, mine: list[Described], starts_s: list[float]) -> list[Question]:
    return [
        Question(
            name=f"{caption.kind} {path.name} {number}",
            kind=caption.kind,
            text=caption.text,
            video=path.name,
            start_s=number * SCENE_S + start_s,
            end_s=number * SCENE_S + start_s + EVENT_S,
        )
        for number, (one, start_s) in enumerate(zip(mine, starts_s, strict=True))
        for caption in one.captions
        if caption.kind in KINDS and not any(name in caption.attributes for name in HIDDEN)
    ]
