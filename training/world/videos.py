"""Segments into real files: H.264 and AAC in MP4, transcripts beside them, and what is where."""

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import msgspec
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from ensembles.contracts import AUDIO_RATE_HZ
from training.corpus import Described
from training.world.captions import Caption
from training.world.drawing import draw
from training.world.hearing import synthesise
from training.world.scenes import Segment

SEGMENTS_A_VIDEO = 10
SIZE_PX = (120, 160)  # height, width
FPS = 10
SAMPLES_A_FRAME = AUDIO_RATE_HZ // FPS
CRF = 23
SOUND_BIT_RATE = 64_000
BOUNDARIES = "segments.json"
CUE_GAP_S = 0.2  # between a cue and the segment's ends


class Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One segment of the files."""

    video: str  # file name
    start_s: float
    end_s: float
    captions: dict[str, str]  # by kind of query
    attributes: dict[str, dict[str, str]]  # of each caption, by kind of query


def write_videos(
    folder: Path, segments: Sequence[Described], a_video: int = SEGMENTS_A_VIDEO
) -> list[Written]:
    """Write segments as videos, one after the other with a cut at each.

    Args:
        folder: for the MP4 files, their `.srt` files and BOUNDARIES; made where missing.
        segments: what to write.
        a_video: how many segments a file has.

    Returns:
        What is where, as BOUNDARIES holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Written] = []
    for number, group in enumerate(_groups(segments, a_video)):
        name = f"corpus-{number:04}.mp4"
        write_video(folder / name, [described.segment for described in group])
        written += _boundaries(name, group)
    text = msgspec.json.format(msgspec.json.encode(written))
    (folder / BOUNDARIES).write_bytes(text)
    return written


def read_boundaries(folder: Path) -> list[Written]:
    """Return what `write_videos` wrote into a folder."""
    return msgspec.json.decode((folder / BOUNDARIES).read_bytes(), type=list[Written])


def write_video(path: Path, segments: Sequence[Segment]) -> None:
    """Write one MP4 file and, where anything is said, its `.srt`; whole or not at all."""
    unfinished = path.with_suffix(".unfinished.mp4")
    with av.open(str(unfinished), "w", options={"fflags": "+bitexact"}) as container:
        video, audio = _streams(container)
        start_s = 0.0
        for segment in segments:
            _write_segment(container, video, audio, segment, start_s)
            start_s += segment.duration_s
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    cues = srt(segments)
    if cues:
        path.with_suffix(".srt").write_text(cues, encoding="utf-8")
    os.replace(unfinished, path)


def srt(segments: Sequence[Segment]) -> str:
    """Return what is said in segments that follow each other, as SubRip; "" where nothing is."""
    cues: list[str] = []
    start_s = 0.0
    for segment in segments:
        end_s = start_s + segment.duration_s
        if segment.speech:
            times = f"{_clock(start_s + CUE_GAP_S)} --> {_clock(end_s - CUE_GAP_S)}"
            cues.append(f"{len(cues) + 1}\n{times}\n{segment.speech.transcript}\n")
        start_s = end_s
    return "\n".join(cues)


def _groups(segments: Sequence[Described], size: int) -> Iterator[Sequence[Described]]:
    for start in range(0, len(segments), size):
        yield segments[start : start + size]


def _boundaries(name: str, group: Sequence[Described]) -> Iterator[Written]:
    start_s = 0.0
    for described in group:
        end_s = start_s + described.segment.duration_s
        captions: tuple[Caption, ...] = described.captions
        yield Written(
            video=name,
            start_s=start_s,
            end_s=end_s,
            captions={caption.kind: caption.text for caption in captions},
            attributes={caption.kind: dict(caption.attributes) for caption in captions},
        )
        start_s = end_s


def _streams(container: OutputContainer) -> tuple[VideoStream, AudioStream]:
    video = container.add_stream("libx264", rate=FPS)
    video.height, video.width = SIZE_PX
    video.pix_fmt = "yuv420p"
    video.codec_context.time_base = Fraction(1, FPS)
    video.codec_context.gop_size = FPS  # a keyframe a second: any frame is near one
    video.options = {"preset": "veryfast", "crf": str(CRF), "threads": "1", "forced-idr": "1"}
    audio = container.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono")
    audio.codec_context.bit_rate = SOUND_BIT_RATE
    return video, audio


def _write_segment(
    container: OutputContainer,
    video: VideoStream,
    audio: AudioStream,
    segment: Segment,
    start_s: float,
) -> None:
    count = round(segment.duration_s * FPS)
    pictures = draw(segment.look, [number / FPS for number in range(count)], SIZE_PX)
    samples = np.zeros(count * SAMPLES_A_FRAME, np.float32)
    if segment.sound:
        samples = synthesise(segment.sound, segment.duration_s)
    first = round(start_s * FPS)
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
        frame.pts, frame.time_base = first + number, Fraction(1, FPS)
        if number == 0:
            frame.pict_type = PictureType.I
        container.mux(video.encode(frame))
        at = number * SAMPLES_A_FRAME
        block = samples[None, at : at + SAMPLES_A_FRAME]  # (1, samples): mono
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", "mono")
        sound.sample_rate = AUDIO_RATE_HZ
        sound.pts = first * SAMPLES_A_FRAME + at
        sound.time_base = Fraction(1, AUDIO_RATE_HZ)
        container.mux(audio.encode(sound))


def _clock(time_s: float) -> str:
    milliseconds = round(time_s * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    seconds, milliseconds = divmod(rest, 1000)
    return f"{hours:02}:{minutes:02}:{seconds:02},{milliseconds:03}"
