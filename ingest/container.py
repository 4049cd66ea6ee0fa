"""Opens hostile media inside the sandbox: allow-listed containers and codecs, bounded streams.

Files are read through a file object; FFmpeg opens no path and no address of its own.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from types import MappingProxyType
from typing import TypeAlias, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from ensembles.contracts import MAX_IMAGE_PX
from gateway.errors import MediaLimitExceeded, MediaRefused
from ingest.calls import Source

VideoPacket: TypeAlias = "Packet[VideoStream]"
AudioPacket: TypeAlias = "Packet[AudioStream]"
AnyPacket: TypeAlias = "VideoPacket | AudioPacket"

# FFmpeg's names. A demuxer has several, separated by commas; one of them here admits it.
VIDEO_CONTAINERS = ("mov", "matroska")
SOUND_CONTAINERS = (*VIDEO_CONTAINERS, "wav", "flac", "ogg", "mp3", "aac")
VIDEO_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4")
AUDIO_CODECS = (
    *("aac", "opus", "vorbis", "mp3", "flac", "alac"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8"),
)
SUBTITLE_CODECS = ("subrip", "mov_text", "webvtt", "ass", "text")
DECODERS = (*VIDEO_CODECS, "libdav1d", *AUDIO_CODECS, "mp3float", *SUBTITLE_CODECS, "ssa", "srt")

MAX_STREAMS = 32  # of one file
BUFFER_BYTES = 128 * 1024  # read from a file at once

# Opening decodes pictures to describe streams in full; who has a file's description needs none.
UNDECODED: Mapping[str, str] = {"skip_frame": "all"}
QUICK: Mapping[str, str] = {**UNDECODED, "analyzeduration": "100000"}  # of 0.1 s, in microseconds


@contextmanager
def open_media(
    source: Source, containers: tuple[str, ...], more: Mapping[str, str] = MappingProxyType({})
) -> Iterator[InputContainer]:
    """Open a file whose container is one of those named.

    Args:
        source: the file.
        containers: FFmpeg's names of those admitted.
        more: how little is to be found out of its streams: UNDECODED or QUICK; all by default.

    Raises:
        MediaRefused: `empty`, `truncated`, `not_media` or `no_streams`.
        MediaLimitExceeded: `streams`.
    """
    if source.size_bytes == 0:
        raise MediaRefused("empty", "the file has no bytes: send it again")
    options = {
        "format_whitelist": ",".join(containers),
        "codec_whitelist": ",".join(DECODERS),
        "protocol_whitelist": "",
        "max_streams": str(MAX_STREAMS + 1),  # one more shows that there are too many
        "max_pixels": str(MAX_IMAGE_PX),
        **more,
    }
    try:
        container = av.open(
            source.open(),
            "r",
            options=options,
            metadata_errors="replace",
            buffer_size=BUFFER_BYTES,
        )
    except (FFmpegError, ValueError) as error:
        if isinstance(error, FFmpegError) and error.errno == errno.ENOMEM:  # so MP4's reader says
            message = f"the file has over {MAX_STREAMS} streams, or an index too large to be read"
            raise MediaLimitExceeded("streams", message) from error
        raise _refusal(source, containers) from error
    with container:
        if not container.streams:
            raise MediaRefused("no_streams", "the file has neither picture nor sound")
        if len(container.streams) > MAX_STREAMS:
            message = f"the file has {len(container.streams)} streams, {MAX_STREAMS} are allowed"
            raise MediaLimitExceeded("streams", message)
        yield container


@contextmanager
def damage_forgiven() -> Iterator[None]:
    """Let a damaged packet cost its own frames only; memory that ran out is no damage.

    Decoders do not agree on the error that damage gets: AAC's may say "operation not permitted".
    """
    try:
        yield
    except FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise


def _refusal(source: Source, containers: tuple[str, ...]) -> MediaRefused:
    """Say why a file could not be opened."""
    if source.open().read(12)[4:8] == b"ftyp":
        message = "the MP4 file's index (moov) is missing or damaged: was it sent whole?"
        return MediaRefused("truncated", message)
    known = ", ".join(containers)
    return MediaRefused("not_media", f"the file is none of the containers read here: {known}")


def video_stream(container: InputContainer) -> VideoStream | None:
    """Return the picture stream that a player shows; a cover picture is none."""
    shown = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    best = cast("VideoStream | None", container.streams.best("video"))
    stream = best if best in shown else next(iter(shown), None)
    if stream is not None and stream.codec_context is not None:
        stream.codec_context.thread_count = 1  # calls run side by side instead
    return stream


@contextmanager
def open_picture(source: Source, what: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the picture of a video; `what` names the source where it has none.

    Raises:
        MediaRefused: there is no picture, or it cannot be opened.
    """
    with open_media(source, VIDEO_CONTAINERS, QUICK) as container:
        stream = video_stream(container)
        if stream is None:
            raise MediaRefused("no_picture", f"the {what} has no picture stream")
        yield container, stream


def pixel_aspect(stream: VideoStream) -> float:
    """Return the width of a pixel over its height; known for sure once a frame is decoded."""
    return float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """Return the sound stream that a player plays."""
    return cast("AudioStream | None", container.streams.best("audio"))


def subtitle_streams(container: InputContainer) -> tuple[SubtitleStream, ...]:
    """Return the subtitle streams that hold text."""
    return tuple(s for s in container.streams.subtitles if codec_name(s) in SUBTITLE_CODECS)


def codec_name(stream: VideoStream | AudioStream | SubtitleStream) -> str:
    """Return the codec's name, not its decoder's: av1, not libdav1d."""
    context = stream.codec_context
    return "unknown" if context is None else context.codec.canonical_name


def start_s(container: InputContainer) -> float:
    """Return the file's own clock at the player's 0."""
    return (container.start_time or 0) / av.time_base


def duration_s(container: InputContainer) -> float:
    """Return the duration that the file states; 0 where it states none."""
    stated = (container.duration or 0) / av.time_base
    return stated if isfinite(stated) and stated > 0 else 0.0
