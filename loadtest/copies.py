"""Video files written again at half the quality: what a careless copy of an upload looks like."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer

from ingest.files import replacing

SIZE_PX = (96, 128)  # height, width; the made-up sets have 120 × 160
CRF = 33  # of H.264; the made-up sets have 23
SOUND_BIT_RATE = 32_000  # the made-up sets have 64,000


def write_copies(folder: Path, originals: Iterable[Path]) -> list[Path]:
    """Write smaller, coarser copies of video files, their transcripts beside them.

    Args:
        folder: for the copies; made where missing. What is there already stays.
        originals: MP4 files with a video stream first and a sound stream, as `write_videos` makes.

    Returns:
        The copies, in the order of the originals.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for original in originals:
        copy = folder / original.name
        if not copy.is_file():
            _write_copy(original, copy)
        copies.append(copy)
    return copies


def _write_copy(original: Path, copy: Path) -> None:
    transcript = original.with_suffix(".srt")
    if transcript.is_file():
        shutil.copyfile(transcript, copy.with_suffix(".srt"))
    options = {"fflags": "+bitexact"}
    with (
        replacing(copy) as file,
        av.open(str(original)) as source,
        av.open(file, "w", format="mp4", options=options) as target,
    ):
        _encode_again(source, target)


def _encode_again(source: InputContainer, target: OutputContainer) -> None:
    pictures, sounds = source.streams.video[0], source.streams.audio[0]
    height, width = SIZE_PX
    video = target.add_stream("libx264", rate=pictures.average_rate)
    video.height, video.width, video.pix_fmt = height, width, "yuv420p"
    video.options = {"preset": "veryfast", "crf": str(CRF), "threads": "1"}
    audio = target.add_stream("aac", rate=sounds.codec_context.sample_rate, layout="mono")
    audio.codec_context.bit_rate = SOUND_BIT_RATE
    for frame in source.decode(pictures, sounds):
        if isinstance(frame, av.VideoFrame):
            small = frame.reformat(width=width, height=height)
            small.pict_type = av.video.frame.PictureType.NONE  # the encoder chooses its keyframes
            target.mux(video.encode(small))
        elif isinstance(frame, av.AudioFrame):
            target.mux(audio.encode(frame))
    target.mux(video.encode(None))
    target.mux(audio.encode(None))
