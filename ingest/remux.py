"""Copies chosen packets of a file into a Matroska file in memory: runs inside the sandbox.

Of a stretch from a keyframe to an exact frame, packets that no other picture needs are left out.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from io import BytesIO
from typing import cast

import av
import msgspec
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from ensembles.contracts import ABSENT, AUDIO_WINDOW_S, MAX_CHUNK_BYTES
from gateway.errors import MediaLimitExceeded
from ingest.calls import Result, Source
from ingest.container import (
    QUICK,
    SOUND_CONTAINERS,
    AnyPacket,
    AudioPacket,
    VideoPacket,
    audio_stream,
    open_media,
    start_s,
    video_stream,
)
from ingest.disposable import is_disposable, length_bytes
from ingest.sounds import near

SEEK_MARGIN_S = 1.0  # sought before what is wanted: a file's streams run a little apart
READ_MARGIN_S = 1.0  # read after the last window of sound, for the same reason
SILENT_MARGIN_S = 10.0  # of picture read after that window where no more sound comes
CLOCK = Fraction(1, 1000)  # seconds of a tick of Matroska's clock
CLOCK_S = float(CLOCK)


class Cut(msgspec.Struct, frozen=True):
    """The arguments of `cut_chunk`. Times are on the file's own clock."""

    runs: tuple[tuple[int, int], ...]  # ticks of the first (a keyframe) and last packet of each
    frames: tuple[int, ...]  # ticks of the frames wanted
    windows_s: tuple[float, ...]
    begin_s: float  # nothing wanted is before this


def cut_inside(source: Source, arguments: bytes) -> Result:
    """Copy the packets of runs and windows.

    Returns:
        The clock's origin in seconds; the file as bytes, and the display index of each frame
        wanted among the file's frames, ABSENT where it is not in the source.
    """
    cut = msgspec.msgpack.decode(arguments, type=Cut)
    sought = _copied(source, cut, cut.begin_s - SEEK_MARGIN_S)
    return sought or cast(Result, _copied(source, cut, None))


def _copied(source: Source, cut: Cut, from_s: float | None) -> Result | None:
    """Copy what is wanted, read from a time or from the start.

    Returns:
        None where a seek landed after what is wanted.
    """
    with open_media(source, SOUND_CONTAINERS, QUICK) as container:
        video = video_stream(container) if cut.runs else None
        audio = audio_stream(container) if cut.windows_s else None
        if from_s is not None and from_s > start_s(container):
            container.seek(int(from_s * av.time_base))
        else:  # no seek: one to the start can lose packets before 0, of encoders' delay
            from_s = None
        pictures, sounds, complete = _read(container, video, audio, cut)
        if from_s is not None and not complete:
            return None
        picture_tick_s, sound_tick_s = _tick_s(video), _tick_s(audio)
        times_s = [cast(int, packet.pts) * picture_tick_s for packet in pictures]
        times_s.extend(cast(int, packet.pts) * sound_tick_s for packet in sounds)
        origin_s = float(np.floor(min(times_s, default=0.0) / CLOCK_S) * CLOCK_S)
        new_ticks = {cast(int, p.pts): _clock(p.pts, picture_tick_s, origin_s) for p in pictures}
        data = _write(video, audio, pictures, sounds, origin_s)
    index_of = {tick: index for index, tick in enumerate(_shown(data) if pictures else ())}
    indices = [index_of.get(new_ticks.get(tick, ABSENT), ABSENT) for tick in cut.frames]
    arrays = (np.frombuffer(data, np.uint8), np.array(indices, np.int32))
    return Result(origin_s, arrays)


def _read(
    container: InputContainer, video: VideoStream | None, audio: AudioStream | None, cut: Cut
) -> tuple[list[VideoPacket], list[AudioPacket], bool]:
    """Read on until all runs and windows are complete, or to the end of the file.

    Returns:
        The packets of the picture and of the sound, in the file's order, and whether all runs
        were found.
    """
    pictures: list[VideoPacket] = []
    sounds: list[AudioPacket] = []
    left, wanted = list(reversed(cut.runs)), set(cut.frames)
    inside, disposable = False, _disposable(video)
    size = 0
    picture_tick_s, sound_tick_s = _tick_s(video), _tick_s(audio)
    silent_from_s = max(cut.windows_s, default=float("-inf")) + AUDIO_WINDOW_S + READ_MARGIN_S
    heard = audio is None
    for packet in container.demux(*(stream for stream in (video, audio) if stream is not None)):
        if packet.pts is None or not packet.size:
            continue
        is_sound = audio is not None and packet.stream_index == audio.index
        at_s = packet.pts * (sound_tick_s if is_sound else picture_tick_s)
        heard = heard or at_s > silent_from_s + SILENT_MARGIN_S
        if is_sound:
            heard = heard or at_s > silent_from_s
            if near(cast("AudioPacket", packet), sound_tick_s, cut.windows_s):
                sounds.append(cast("AudioPacket", packet))
                size += packet.size
        elif left:
            inside = inside or packet.pts == left[-1][0]
            if inside and (packet.pts in wanted or not disposable(packet)):
                pictures.append(cast("VideoPacket", packet))
                size += packet.size
            if inside and packet.pts == left[-1][1]:
                left.pop()
                inside = False
        if size > MAX_CHUNK_BYTES:
            message = f"a chunk is over its limit of {MAX_CHUNK_BYTES} bytes"
            raise MediaLimitExceeded("chunk_bytes", message)
        if heard and not left:
            break
    return pictures, sounds, not left


def _disposable(video: VideoStream | None) -> Callable[["Packet[Stream]"], bool]:
    """Return what tells whether the other pictures of a stream can do without a packet."""
    if video is None or video.codec_context.name != "h264":
        return lambda _: False
    size = length_bytes(video.codec_context.extradata)
    return lambda packet: size > 0 and is_disposable(bytes(packet), size)


def _write(
    video: VideoStream | None,
    audio: AudioStream | None,
    pictures: list[VideoPacket],
    sounds: list[AudioPacket],
    origin_s: float,
) -> bytes:
    """Write packets as Matroska, with `origin_s` of the source's clock as its 0."""
    file = BytesIO()
    # Without `bitexact` the writer draws random names for its tracks, for which it opens a path.
    with av.open(file, "w", format="matroska", options={"fflags": "+bitexact"}) as output:
        if video is not None:
            _retime(pictures, _tick_s(video), origin_s)
            shown = output.add_stream_from_template(video, opaque=True)
            for picture in pictures:
                picture.stream = shown
        if audio is not None:
            _retime(sounds, _tick_s(audio), origin_s)
            heard = output.add_stream_from_template(audio, opaque=True)
            for sound in sounds:
                sound.stream = heard
        packets: list[AnyPacket] = [*pictures, *sounds]
        for packet in sorted(packets, key=lambda packet: cast(int, packet.dts)):
            output.mux_one(packet)
    return file.getvalue()


def _tick_s(stream: VideoStream | AudioStream | None) -> float:
    """Return the unit of a stream's times, which a packet takes long to tell."""
    return float(stream.time_base or 0) if stream is not None else 0.0


def _retime(packets: Sequence[AnyPacket], tick_s: float, origin_s: float) -> None:
    """Move packets, timed in ticks of so many seconds, to Matroska's clock.

    Matroska stores presentation times alone, but its writer wants decoding times that never fall
    and are never later: of each packet, the earliest presentation from it on.
    """
    earliest: int | None = None
    for packet in reversed(packets):
        shown = _clock(packet.pts, tick_s, origin_s)
        length = _clock(packet.duration, tick_s, 0.0)
        earliest = shown if earliest is None else min(earliest, shown)
        packet.time_base = CLOCK
        packet.pts, packet.dts, packet.duration = shown, earliest, length


def _shown(data: bytes) -> list[int]:
    """Return the presentation times that a decoder of a chunk will see, ascending.

    Read back, because the writer leaves out packets that it finds damaged.
    """
    with av.open(BytesIO(data), "r", format="matroska", options=dict(QUICK)) as written:
        packets = written.demux(written.streams.video[0])
        return sorted({packet.pts for packet in packets if packet.size and packet.pts is not None})


def _clock(ticks: int | None, tick_s: float, origin_s: float) -> int:
    """Return a time on Matroska's clock with another origin."""
    return round(((ticks or 0) * tick_s - origin_s) / CLOCK_S)
