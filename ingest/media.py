"""What the steps of a video's way tell each other about a media file.

All times are seconds on the player's clock: 0 is where the file's first stream starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ensembles.arrays import Float64Array, Int32Array

USUAL_NEIGHBOURS = 25  # packets to each side whose sizes say what is usual
WINDOWS_AT_ONCE = 4_096

Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class VideoTrack(msgspec.Struct, frozen=True):
    """The picture stream that is shown, as a player shows it."""

    codec: str
    width: int  # pixels, after rotation and with square pixels
    height: int
    fps: float  # frames a second on average; 0 where the file does not say
    rotation: int  # degrees clockwise that a player turns the picture: 0, 90, 180 or 270


class AudioTrack(msgspec.Struct, frozen=True):
    """The sound stream that is heard."""

    codec: str
    rate_hz: int
    channels: int


class SubtitleTrack(msgspec.Struct, frozen=True):
    """A subtitle stream of text."""

    stream_index: int
    codec: str
    language: str | None


class MediaInfo(msgspec.Struct, frozen=True):
    """A media file that can be analysed."""

    container: str  # mp4 or matroska, or a container of sound
    duration_s: float
    start_s: float  # the file's own clock at the player's 0
    size_bytes: int
    video: VideoTrack | None
    audio: AudioTrack | None
    subtitles: tuple[SubtitleTrack, ...]
    ignored: tuple[str, ...]  # what is not analysed, in words: "audio in ac3"


@dataclass(frozen=True)
class PacketIndex:
    """Every packet of the picture stream, in the order of the file (decoding order).

    `ticks` name packets exactly, in units of `tick_s` on the file's own clock; `times_s` are the
    same moments on the player's clock.
    """

    ticks: Int64Array  # (packets,) presentation times
    times_s: Float64Array  # (packets,)
    keyframes: BoolArray  # (packets,)
    sizes: Int32Array  # (packets,) bytes
    tick_s: float
    end_s: float  # where the last frame ends

    def __len__(self) -> int:
        return len(self.ticks)

    @cached_property
    def shown(self) -> Int64Array:
        """The positions of the packets in presentation order, (packets,)."""
        return np.argsort(self.ticks, kind="stable")

    @cached_property
    def position_of(self) -> dict[int, int]:
        """The position of the packet that is shown at each tick."""
        return {tick: position for position, tick in enumerate(self.ticks.tolist())}

    @cached_property
    def usual_sizes(self) -> Int32Array:
        """The third largest of the predicted packets around each and itself, bytes, (packets,).

        The third, so that neither a packet nor one other large one nearby hides what is usual;
        0 where there are fewer.
        """
        width = 2 * USUAL_NEIGHBOURS + 1
        predicted = np.where(self.keyframes, 0, self.sizes)
        windows = sliding_window_view(np.pad(predicted, USUAL_NEIGHBOURS), width)
        thirds = [  # a part at a time: an hour of windows at once would take 100 MB
            np.partition(windows[start : start + WINDOWS_AT_ONCE], width - 3, axis=1)[:, width - 3]
            for start in range(0, len(windows), WINDOWS_AT_ONCE)
        ]
        return np.asarray(np.concatenate(thirds), np.int32)

    @cached_property
    def shown_s(self) -> Float64Array:
        """The times of all frames in presentation order, (packets,)."""
        return self.times_s[self.shown]

    @cached_property
    def keyframe_times_s(self) -> Float64Array:
        """The times of the keyframes, ascending."""
        return np.sort(self.times_s[self.keyframes])


@dataclass(frozen=True)
class Keyframes:
    """Pictures of keyframes, in the order of time."""

    times_s: tuple[float, ...]  # on the player's clock
    pictures: tuple[bytes, ...]  # WebP
    width: int  # pixels, of each
    height: int


NO_KEYFRAMES = Keyframes((), (), 0, 0)


def no_packets() -> PacketIndex:
    """Return the index of a file without picture."""
    return PacketIndex(
        ticks=np.zeros(0, np.int64),
        times_s=np.zeros(0, np.float64),
        keyframes=np.zeros(0, np.bool_),
        sizes=np.zeros(0, np.int32),
        tick_s=1.0,
        end_s=0.0,
    )


def decoding_runs(
    ticks: Int64Array, keyframes: BoolArray, wanted: Sequence[int] | Int64Array
) -> list[tuple[int, int]]:
    """Return the stretches of packets, in decoding order, that some frames need.

    A frame needs the packets from the last keyframe shown no later than it, up to its own. Frames
    shown before a keyframe may follow it in the file (an open group of pictures): they need the
    keyframe before.

    Args:
        ticks: (packets,) presentation times, in decoding order.
        keyframes: (packets,) which are keyframes.
        wanted: positions of the frames wanted, in any order.

    Returns:
        First and last positions of each stretch, ascending, without overlap.
    """
    keys = np.flatnonzero(keyframes)
    runs: list[tuple[int, int]] = []
    for position in sorted(map(int, wanted)):
        before = keys[: int(np.searchsorted(keys, position, side="right"))]
        shown_before = before[ticks[before] <= ticks[position]]
        first, last = (int(shown_before[-1]) if shown_before.size else 0), position
        while runs and first <= runs[-1][1]:
            joined = runs.pop()
            first, last = min(first, joined[0]), max(last, joined[1])
        runs.append((first, last))
    return runs
