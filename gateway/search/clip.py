"""A query's clip to its vectors, by the steps of ingest: a clip is a video of one segment."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ensembles.arrays import FloatArray
from gateway.doors import Doors
from gateway.errors import MediaRefused
from gateway.schemas import LegName
from gateway.settings import Settings
from ingest.chunks import Chunk, cut_chunks, runs_of
from ingest.gathering import segment_mean
from ingest.media import MediaInfo, PacketIndex, no_packets
from ingest.plan import Plan, modality_weights, plan_picture, plan_sound
from ingest.probe import probe, read_packets
from ingest.scenes import Scene

MAX_CLIP_S = 30.0
TOLERANCE_S = 0.5  # by which the last packets of a clip of that length may end later
MIN_CLIP_FRAMES = 3  # looked at, where there are as many …
MAX_CLIP_FRAMES = 8  # … and in a long clip; as many windows of sound are listened to
CLIP_FRAMES_PER_S = 0.4
MAX_DECODED_PX = 600_000_000  # of all frames decoded for those: ten seconds of 1080p at 30 a second

ClipVectors = Mapping[LegName, FloatArray]  # unit vectors; none of what the clip does not have


async def embed_clip(clip: bytes, doors: Doors, timeout_s: float) -> ClipVectors:
    """Embed a clip as ingest would embed it, were it a segment of a video.

    Its frames and sound alone are embedded: subtitles that it has are not read.

    Args:
        clip: an encoded file with picture or sound.
        doors: the way to Triton, and the threads that wait for the sandbox.
        timeout_s: for all of it.

    Raises:
        MediaRefused, MediaLimitExceeded: it cannot be decoded, or is longer than MAX_CLIP_S
            (`too_long`).
        Unavailable, Overloaded: what Triton raises.
    """
    until = time.monotonic() + timeout_s
    chunk = await doors.disk.call(cut_clip, clip, doors.settings)
    found = await doors.triton.embed_video(chunk.input, timeout_s=until - time.monotonic())
    wanted, fused = chunk.input, found.fused[0]
    vectors: dict[LegName, FloatArray | None] = {
        "visual": segment_mean(found.frames, wanted.frame_segments, wanted.frame_weights, 0),
        "sound": segment_mean(found.audio, wanted.audio_segments, wanted.audio_weights, 0),
        "fused": fused if fused.any() else None,
    }
    return {leg: vector for leg, vector in vectors.items() if vector is not None}


def cut_clip(clip: bytes, settings: Settings) -> Chunk:
    """Return a clip as one chunk of one segment; it is read in the sandbox.

    Raises:
        MediaRefused, MediaLimitExceeded: as `ingest.probe` does; `no_length` where nothing lasts.
    """
    with _file_in_memory(clip) as path:
        info = probe(path, max_duration_s=MAX_CLIP_S + TOLERANCE_S)
        if not info.duration_s > 0:
            raise MediaRefused("no_length", "the clip is a single moment: send a picture as image")
        packets = read_packets(path, info) if info.video else no_packets()
        plan = plan_clip(info, packets, settings)
        weights = modality_weights(None)
        (chunk,) = cut_chunks(path, info, packets, plan.segments, [""], weights, settings)
    return chunk


def plan_clip(info: MediaInfo, packets: PacketIndex, settings: Settings) -> Plan:
    """Return the one segment that a clip is, with frames and windows spread over all of it. Pure.

    Where the frames between its keyframes cost too much decoding, keyframes alone are looked at.
    """
    wished = round(CLIP_FRAMES_PER_S * info.duration_s)
    frames = min(MAX_CLIP_FRAMES, max(MIN_CLIP_FRAMES, wished))
    spread = msgspec.structs.replace(
        settings,
        segment_s=MAX_CLIP_S + TOLERANCE_S,
        base_frames_per_s=frames / info.duration_s,
        frames_per_pix=1.0,
        max_frames=frames,
    )
    if info.video is None:
        return plan_sound(info.duration_s, frames, spread)
    whole = (Scene(0.0, info.duration_s, 0.0),)
    heard = info.audio is not None
    exact, keyframes = (
        plan_picture(whole, packets, info.duration_s, pix, spread, sound=heard)
        for pix in (frames, 0)
    )
    pixels = info.video.width * info.video.height
    return exact if _decoded(exact, packets) * pixels <= MAX_DECODED_PX else keyframes


def _decoded(plan: Plan, packets: PacketIndex) -> int:
    """Return how many frames are decoded for those that a plan looks at."""
    ticks = sorted(tick for segment in plan.segments for tick in segment.frames)
    return sum(last - first + 1 for first, last in runs_of(packets, ticks))


@contextmanager
def _file_in_memory(data: bytes) -> Iterator[Path]:
    """Give what came with a request the path that ingest's steps take; nothing is on a disk."""
    descriptor = os.memfd_create("pixserve-clip")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
