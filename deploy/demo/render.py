"""Renders the demo videos: real files, seeded, the same bytes each time.

`python -m deploy.demo.render --out DIR`
"""

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import av
import msgspec
import numpy as np
import typer
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Stream
from av.video.frame import PictureType
from av.video.stream import VideoStream
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.demo.muxing import (
    TEXT_TIME_BASE,
    Encodable,
    sound_blocks,
    text_packet,
    write_interleaved,
)
from deploy.demo.pictures import Painter
from deploy.demo.sounds import RATE_HZ, scene_sound
from deploy.demo.topics import FOLDER, Topic, read_topics, srt, vtt
from gateway.schemas import VideoMetadata

SIZE = (640, 360)
FPS = 25
GOP_FRAMES = 100  # between keyframes at most: 4 s
SOUND_BLOCK = RATE_HZ // FPS  # samples handed to the encoder at a time: one frame's
SOUND_BIT_RATE = 64_000
PROCESSES = 2

# One thread an encoder: two files are rendered at a time, and threads would change the bytes.
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "superfast", "crf": "30", "threads": "1", "forced-idr": "1"},
    "libx265": {
        "preset": "ultrafast",
        "crf": "32",
        "x265-params": "pools=none:frame-threads=1:log-level=none",
        "forced-idr": "1",
    },
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "40", "b": "0", "threads": "1"},
}

# Told after each file: which one, how many files are there, how many there will be.
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DemoVideo:
    """A rendered file, its transcript where that is a file of its own, and its metadata."""

    name: str
    path: Path
    sidecar: Path | None
    duration_s: float
    metadata: VideoMetadata


def render_all(
    out: Path,
    progress: Report,
    *,
    topics: tuple[Topic, ...] | None = None,
    size: tuple[int, int] = SIZE,
) -> tuple[DemoVideo, ...]:
    """Render the demo videos that `out` does not hold yet, two at a time.

    Args:
        out: the folder for the files; made where missing.
        progress: told after each file.
        topics: what to render; None is everything in `topics.toml`.
        size: width and height in pixels; the width even, the height divisible by four.

    Returns:
        The videos in the order of the topics.
    """
    out.mkdir(parents=True, exist_ok=True)
    chosen = read_topics() if topics is None else topics
    missing = [topic for topic in chosen if not _is_rendered(topic, out, size)]
    done = len(chosen) - len(missing)
    progress("the demo videos", done, len(chosen))
    if missing:
        for name in _render_missing(missing, out, size):
            done += 1
            progress(name, done, len(chosen))
    return tuple(_demo_video(topic, out) for topic in chosen)


def _render_missing(missing: list[Topic], out: Path, size: tuple[int, int]) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(PROCESSES, len(missing)), mp_context=context) as pool:
        names: dict[Future[None], str] = {
            pool.submit(render, topic, out, size): topic.file for topic in missing
        }
        for future in as_completed(names):
            future.result()
            yield names[future]


def render(topic: Topic, out: Path, size: tuple[int, int] = SIZE) -> None:
    """Render one video and its transcript into `out`; a file appears only when it is complete."""
    path = out / topic.file
    unfinished = path.with_stem(path.stem + ".unfinished")
    with av.open(str(unfinished), "w", options=_container_options(path)) as container:
        write_interleaved(container, _tracks(container, topic, size))
    sidecar = _sidecar(topic, out)
    if sidecar:
        sidecar.write_text((srt if topic.transcript == "srt" else vtt)(topic.cue), encoding="utf-8")
    os.replace(unfinished, path)
    _key_path(path).write_text(content_key(topic, size), encoding="ascii")


def content_key(topic: Topic, size: tuple[int, int]) -> str:
    """Return a hash of all that decides a file's content: topic, size, this code, the encoders."""
    digest = hashlib.sha256(msgspec.json.encode((topic, size, av.__version__)))
    for source in (
        "backdrops.py",
        "muxing.py",
        "pictures.py",
        "render.py",
        "sounds.py",
        "topics.py",
    ):
        digest.update((FOLDER / source).read_bytes())
    return digest.hexdigest()


def _is_rendered(topic: Topic, out: Path, size: tuple[int, int]) -> bool:
    path, sidecar = out / topic.file, _sidecar(topic, out)
    key = _key_path(path)
    complete = path.is_file() and key.is_file() and (sidecar is None or sidecar.is_file())
    return complete and key.read_text(encoding="ascii") == content_key(topic, size)


def _key_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.key")


def _sidecar(topic: Topic, out: Path) -> Path | None:
    is_file = topic.transcript in ("srt", "vtt")
    return (out / topic.file).with_suffix(f".{topic.transcript}") if is_file else None


def _demo_video(topic: Topic, out: Path) -> DemoVideo:
    sidecar = _sidecar(topic, out)
    return DemoVideo(topic.name, out / topic.file, sidecar, topic.duration_s, topic.metadata)


def _container_options(path: Path) -> dict[str, str]:
    faststart = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}
    return {"fflags": "+bitexact", **faststart}


def _tracks(
    container: OutputContainer, topic: Topic, size: tuple[int, int]
) -> list[Iterator[Encodable]]:
    """Add the topic's streams to the container and return what goes into each."""
    video = container.add_stream(topic.video_codec, rate=FPS)
    video.width, video.height = size
    video.pix_fmt = "yuv420p"
    video.codec_context.time_base = Fraction(1, FPS)
    video.codec_context.gop_size = GOP_FRAMES
    video.options = {**ENCODERS[topic.video_codec]}
    tracks = [_frames(video, topic, size)]
    if topic.audio_codec:
        audio = container.add_stream(topic.audio_codec, rate=RATE_HZ, layout="mono")
        audio.codec_context.bit_rate = SOUND_BIT_RATE
        tracks.append(_blocks(audio, topic))
    if topic.transcript == "embedded":
        text = container.add_mux_stream("subrip", time_base=TEXT_TIME_BASE)
        text.metadata["language"] = "eng"
        tracks.append(_lines(text, topic))
    return tracks


def _frames(stream: VideoStream, topic: Topic, size: tuple[int, int]) -> Iterator[Encodable]:
    """Yield the pictures; each scene begins with a keyframe, as an editor's export does."""
    number = 0
    for start_s, scene in zip(topic.starts_s, topic.scene, strict=True):
        painter = Painter(scene, size, _seed(topic, start_s))
        first = number
        while number < round(scene.end_s * FPS):
            pixels = painter.frame(number / FPS - start_s)
            frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            if number == first:
                frame.pict_type = PictureType.I
            yield number / FPS, stream, frame
            number += 1


def _blocks(stream: AudioStream, topic: Topic) -> Iterator[Encodable]:
    scenes = zip(topic.starts_s, topic.scene, strict=True)
    sound = np.concatenate(
        [scene_sound(scene, scene.end_s - at, _seed(topic, at)) for at, scene in scenes]
    )
    yield from sound_blocks(stream, sound, RATE_HZ, SOUND_BLOCK)


def _lines(stream: Stream, topic: Topic) -> Iterator[Encodable]:
    for cue in topic.cue:
        packet = text_packet(stream, cue.text.encode(), cue.start_s, cue.end_s)
        yield cue.start_s, stream, packet


def _seed(topic: Topic, start_s: float) -> int:
    digest = hashlib.sha256(f"{topic.name} {start_s}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def main(out: Annotated[Path, typer.Option(help="Folder for the files.")]) -> None:
    """Render the demo videos into a folder; files that are there already are kept."""
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn()) as bar:
        task = bar.add_task("rendering", total=None)

        def report(name: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=f"rendered {name}")

        render_all(out, report)


if __name__ == "__main__":
    typer.run(main)
