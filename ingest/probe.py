"""Says what a media file is, or why it cannot be analysed, and lists its packets.

`probe` reads the head of a file and decodes one picture or a little sound, so that a file whose
codec is not really there is refused at once. `read_packets` reads the whole file once without
decoding, and so finds what a head cannot tell: a file that ends before it says it does.
"""

import asyncio
from itertools import islice
from math import inf
from pathlib import Path

import msgspec
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from gateway.errors import MediaRefused
from ingest.calls import Result, Source
from ingest.container import (
    AUDIO_CODECS,
    SOUND_CONTAINERS,
    UNDECODED,
    VIDEO_CODECS,
    audio_stream,
    codec_name,
    duration_s,
    open_media,
    pixel_aspect,
    start_s,
    subtitle_streams,
    video_stream,
)
from ingest.media import (
    AudioTrack,
    MediaInfo,
    PacketIndex,
    SubtitleTrack,
    VideoTrack,
    no_packets,
)
from ingest.pictures import check_pixels
from ingest.replies import Reply
from ingest.sandbox import Limits, run_limited
from ingest.sounds import decode_samples

PROBE_PACKETS = 64  # of a stream that are tried until one decodes
TRUNCATED_SHARE = 0.02  # a file may end this much before its stated duration …
TRUNCATED_S = 2.0  # … or this many seconds, whichever is more

# A busy machine makes everything slow: the wall clock only ends what hangs without using anything.
PROBE_LIMITS = Limits(cpu_s=20.0, wall_s=300.0)
CPU_S_PER_BYTE = 40.0 / 1024**3  # of reading packets without decoding


def probe(path: Path, *, max_duration_s: float = inf) -> MediaInfo:
    """Read the head of a media file and decode its first picture or sound.

    Raises:
        MediaRefused: `empty`, `not_media`, `no_streams`, `codec_not_allowed`, `truncated`,
            `undecodable` or `too_long`.
        MediaLimitExceeded: `streams`, `pixels`, `cpu_time`, `wall_time` or `memory`.
    """
    limits = file_limits(path, PROBE_LIMITS)
    info = run_limited("probe", path, limits=limits).value_as(MediaInfo)
    if info.duration_s > max_duration_s:
        message = f"the file is {info.duration_s:.0f} s long, {max_duration_s:.0f} s are allowed"
        raise MediaRefused("too_long", message)
    return info


def read_packets(path: Path, info: MediaInfo) -> PacketIndex:
    """List the packets of the picture stream of a file that was probed.

    Raises:
        MediaRefused: `truncated`, where the packets end long before the stated duration;
            `undecodable`, where there is no keyframe.
        MediaLimitExceeded: a limit was hit.
    """
    return _packet_index(_list_packets(path), info)


def _list_packets(path: Path) -> Reply:
    return run_limited("read_packets", path, limits=file_limits(path, PROBE_LIMITS))


def _packet_index(reply: Reply, info: MediaInfo) -> PacketIndex:
    ticks, keyframes, sizes = reply.arrays
    tick_s, end_s = reply.value_as(tuple[float, float])
    packets = PacketIndex(
        ticks=ticks.astype(np.int64),
        times_s=ticks.astype(np.float64) * tick_s - info.start_s,
        keyframes=keyframes.astype(np.bool_),
        sizes=sizes.astype(np.int32),
        tick_s=tick_s,
        end_s=end_s - info.start_s,
    )
    if not packets.keyframes.any():
        raise MediaRefused("undecodable", "the picture stream has no keyframe")
    return packets


async def probe_with_packets(
    path: Path, *, max_duration_s: float = inf
) -> tuple[MediaInfo, PacketIndex]:
    """Probe a file and list the packets of its picture side by side, each in a child of its own.

    Raises:
        MediaRefused, MediaLimitExceeded: as `probe` does, and then as `read_packets` does.
    """
    probing = asyncio.to_thread(probe, path, max_duration_s=max_duration_s)
    listing = asyncio.to_thread(_list_packets, path)
    info, listed = await asyncio.gather(probing, listing, return_exceptions=True)
    if isinstance(info, BaseException):
        raise info
    if info.video is None:
        return info, no_packets()
    if isinstance(listed, BaseException):
        raise listed
    return info, _packet_index(listed, info)


def file_limits(path: Path, limits: Limits) -> Limits:
    """Return limits that allow for reading the whole of a large file."""
    more_s = path.stat().st_size * CPU_S_PER_BYTE if path.exists() else 0.0
    return Limits(
        cpu_s=limits.cpu_s + more_s,
        wall_s=limits.wall_s + 4 * more_s,
        memory_bytes=limits.memory_bytes,
        reply_bytes=limits.reply_bytes,
    )


# ---- inside the sandbox: the head ---------------------------------------------------------------


def probe_inside(source: Source, _: bytes) -> Result:
    """Describe a file: `probe`."""
    with open_media(source, SOUND_CONTAINERS, UNDECODED) as container:
        video, audio = video_stream(container), audio_stream(container)
        ignored: list[str] = []
        if video is not None and codec_name(video) not in VIDEO_CODECS:
            known = ", ".join(VIDEO_CODECS)
            message = f"the picture is in {codec_name(video)}; these are read here: {known}"
            raise MediaRefused("codec_not_allowed", message)
        if audio is not None and codec_name(audio) not in AUDIO_CODECS:
            ignored.append(f"sound in {codec_name(audio)}")
            audio = None
        if video is None and audio is None:
            raise _nothing_to_analyse(ignored)
        info = MediaInfo(
            container=container.format.name.split(",")[0],
            duration_s=duration_s(container),
            start_s=start_s(container),
            size_bytes=source.size_bytes,
            video=_video_track(container, video) if video else None,
            audio=_audio_track(container, audio) if audio else None,
            subtitles=tuple(
                SubtitleTrack(s.index, codec_name(s), s.language)
                for s in subtitle_streams(container)
            ),
            ignored=tuple(ignored),
        )
    if info.duration_s == 0.0 or info.video is None or info.start_s > TRUNCATED_S:
        info = msgspec.structs.replace(info, duration_s=_measured_duration_s(source))
    return Result(info)


def _nothing_to_analyse(ignored: list[str]) -> MediaRefused:
    if ignored:
        known = ", ".join(AUDIO_CODECS)
        message = f"the file has only {ignored[0]}; these are read here: {known}"
        return MediaRefused("codec_not_allowed", message)
    return MediaRefused("no_streams", "the file has neither picture nor sound")


def _video_track(container: InputContainer, stream: VideoStream) -> VideoTrack:
    """Describe the picture as it is shown; decodes its first frame."""
    check_pixels(stream.codec_context.width, stream.codec_context.height)
    frame = _first_frame(container, stream)
    width = round(frame.width * pixel_aspect(stream))
    turned = frame.rotation % 180 != 0
    return VideoTrack(
        codec=codec_name(stream),
        width=frame.height if turned else width,
        height=width if turned else frame.height,
        fps=float(stream.average_rate or stream.guessed_rate or 0),
        rotation=-frame.rotation % 360,
    )


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame:
    stream.codec_context.options = {"flags": "+low_delay"}  # or it waits for what comes before
    for packet in islice(container.demux(stream), PROBE_PACKETS):
        try:
            frames = packet.decode()
        except FFmpegError:
            continue
        if frames:
            return frames[0]
    raise MediaRefused("undecodable", "the beginning of the picture stream cannot be decoded")


def _audio_track(container: InputContainer, stream: AudioStream) -> AudioTrack:
    """Describe the sound; decodes a little of it."""
    container.seek(0)
    packets = (p for p in islice(container.demux(stream), PROBE_PACKETS) if p.size)
    _, samples = decode_samples(stream, packets, at_most=1)
    if samples.size == 0:
        raise MediaRefused("undecodable", "the beginning of the sound cannot be decoded")
    context = stream.codec_context
    return AudioTrack(codec_name(stream), context.sample_rate, context.channels)


def _measured_duration_s(source: Source) -> float:
    """Return the duration by the last packet, where a file states none or one in doubt."""
    end_s = 0.0
    with open_media(source, SOUND_CONTAINERS) as container:
        for packet in container.demux(*container.streams.video, *container.streams.audio):
            if packet.pts is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        return _checked_duration_s(container, end_s)


# ---- inside the sandbox: the packets ------------------------------------------------------------


def packets_inside(source: Source, _: bytes) -> Result:
    """List the packets of the picture stream: `read_packets`."""
    ticks: list[int] = []
    keyframes: list[bool] = []
    sizes: list[int] = []
    duration = 0
    with open_media(source, SOUND_CONTAINERS, UNDECODED) as container:
        stream = video_stream(container)
        if stream is None or stream.time_base is None:
            raise MediaRefused("no_picture", "the file has no picture stream")
        audio = audio_stream(container)
        sound_ticks = 0
        for packet in container.demux(stream, audio) if audio else container.demux(stream):
            if packet.pts is None or not packet.size:
                continue
            if packet.stream_index != stream.index:
                sound_ticks = max(sound_ticks, packet.pts)
            elif not packet.is_discard:
                ticks.append(packet.pts)
                keyframes.append(packet.is_keyframe)
                sizes.append(packet.size)
                duration = packet.duration or duration
        tick_s = float(stream.time_base)
        end_s = (max(ticks) + duration) * tick_s if ticks else 0.0
        sound_s = sound_ticks * float(audio.time_base or 0) if audio else 0.0
        _checked_duration_s(container, max(end_s, sound_s))
    arrays = (np.array(ticks, np.int64), np.array(keyframes, np.bool_), np.array(sizes, np.int32))
    return Result((tick_s, end_s), arrays)


def _checked_duration_s(container: InputContainer, end_s: float) -> float:
    """Return how long a file is whose last packet ends at `end_s` on the file's own clock.

    Some muxers of Matroska state when the file ends in place of how long it is.

    Raises:
        MediaRefused: `truncated`, where the packets end long before the stated duration.
    """
    stated_s, begin_s = duration_s(container), start_s(container)
    length_s = max(0.0, end_s - begin_s)
    if container.format.name.startswith("matroska") and stated_s > begin_s:
        stated_s -= begin_s
    if stated_s - length_s > max(TRUNCATED_S, TRUNCATED_SHARE * stated_s):
        message = f"the file ends after {length_s:.1f} s of {stated_s:.1f} s: was it sent whole?"
        raise MediaRefused("truncated", message)
    return length_s if begin_s > TRUNCATED_S else stated_s or length_s
