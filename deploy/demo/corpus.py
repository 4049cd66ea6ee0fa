"""The demo's made-up video: shapes and sounds that are found by words alone, nothing is said.

Its segments are near misses of each other: another colour, another way, another sound.
"""

import hashlib
from pathlib import Path

from deploy.demo.render import DemoVideo
from deploy.demo.topics import TextQuery
from gateway.schemas import VideoMetadata
from training.world.scenes import SEGMENT_S, Figure, Look, Segment, Sound

NAME = "shapes"
KEY_CHARS = 8  # of the content's hash in the file's name
PIX = 500  # a motion is seen in several frames only

# Background, its colour, colour and shape before it, motion, sound and its pitch; "" is silence.
SCENES = (
    ("stripes", "blue", "red", "circle", "left", "", ""),
    ("stripes", "blue", "red", "circle", "right", "drum", "low"),
    ("stripes", "green", "purple", "circle", "left", "falling", "high"),
    ("plain", "white", "red", "circle", "left", "buzz", "low"),
    ("gradient", "purple", "yellow", "star", "grows", "rising", "high"),
    ("clouds", "white", "green", "triangle", "up", "", ""),
    ("checks", "pink", "blue", "square", "still", "bell", "middle"),
    ("dots", "orange", "white", "moon", "down", "burst", "middle"),
    ("gradient", "blue", "orange", "heart", "shrinks", "bell", "high"),
    ("plain", "yellow", "blue", "square", "right", "warble", "middle"),
)


def _query(text: str, scene: int) -> TextQuery:
    start_s = scene * SEGMENT_S
    return TextQuery(text=text, video=NAME, start_s=start_s, end_s=start_s + SEGMENT_S)


QUERIES = (
    _query("a red circle moving left over a striped background", 0),
    _query("a star that grows while a whistle rises", 4),
    _query("a green triangle against clouds", 5),
    _query("a heart that shrinks while a bell rings", 8),
)


def corpus_video(folder: Path) -> DemoVideo:
    """Write the made-up video where it is not there yet.

    Args:
        folder: for the file; made where missing.
    """
    segments = [_segment(number) for number in range(len(SCENES))]
    key = hashlib.sha256(repr(segments).encode()).hexdigest()[:KEY_CHARS]
    path = folder / f"{NAME}-{key}.mp4"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        from training.world.videos import write_video  # it draws with torch

        write_video(path, segments)
    metadata = VideoMetadata(
        title="Shapes and sounds, made up", creator_id="drawing_machine", pix=PIX
    )
    return DemoVideo(NAME, path, None, len(SCENES) * SEGMENT_S, metadata)


def _segment(number: int) -> Segment:
    background, background_colour, colour, shape, motion, event, pitch = SCENES[number]
    look = Look(
        figure=Figure(
            shape=shape, colour=colour, size="medium", number="one", texture="plain",
            across="middle", down="middle",
        ),
        companion=None,
        background=background,
        background_colour=background_colour,
        weather="clear",
        light="day",
        motion=motion,
        camera="static",
        seed=number,
    )  # fmt: skip
    sound = Sound(
        event=event, pitch=pitch, tempo="moderate", bed="quiet", swell="steady", seed=number
    )
    return Segment(look, sound if event else None, None)
