from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ensembles.bundle import Bundle, Capabilities
from ensembles.contracts import ABSENT
from gateway.doors import Doors
from gateway.errors import MediaRefused
from gateway.schemas import InputWeights, LegWeights
from gateway.search.clip import MAX_CLIP_FRAMES, MIN_CLIP_FRAMES, cut_clip, embed_clip, plan_clip
from gateway.search.legs import Found, run_legs
from gateway.search.plan import Aim, plan_legs
from gateway.search.query import Query
from gateway.settings import Settings
from ingest.media import AudioTrack, MediaInfo, PacketIndex, VideoTrack
from tests.corpora import add_video, opened_doors
from tests.fake_triton import FILMED, looks
from tests.media import (
    image_bytes,
    make_empty_file,
    make_silent_video,
    make_sound,
    make_text_file,
    make_truncated_video,
    make_video,
    packet_index,
)

pytestmark = pytest.mark.usefixtures("sandbox")

FPS = 25
FULL = Capabilities(words_to_pixels=True, words_to_sounds=False, fusion_trained=True)
CLIP = Query("", b"", b"", 10.0, clip=b"a clip")
VIDEO = Aim(("video",))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_video(tmp_path_factory.mktemp("media") / "clip.mp4", duration_s=6).read_bytes()


# ---- what of a clip is looked at


def media(duration_s: float, *, side_px: int = 100, sound: bool = True) -> MediaInfo:
    return MediaInfo(
        container="mp4",
        duration_s=duration_s,
        start_s=0.0,
        size_bytes=1,
        video=VideoTrack("h264", side_px, side_px, FPS, 0),
        audio=AudioTrack("aac", 48_000, 2) if sound else None,
        subtitles=(),
        ignored=(),
    )


def packets(duration_s: float, *, gop: int) -> PacketIndex:
    count = round(duration_s * FPS)
    return packet_index([100] * count, range(0, count, gop), FPS)


@pytest.mark.parametrize(
    ("duration_s", "frames"), [(0.2, 3), (6.0, 3), (10.0, 4), (20.0, 8), (30.4, 8)]
)
def test_frames_and_windows_are_spread_over_the_whole_clip(duration_s: float, frames: int) -> None:
    plan = plan_clip(media(duration_s), packets(duration_s, gop=250), Settings(segment_s=1.0))
    (segment,) = plan.segments
    assert MIN_CLIP_FRAMES <= len(segment.frames) == frames <= MAX_CLIP_FRAMES
    gaps_s = np.diff([0.0, *(tick / FPS for tick in segment.frames), duration_s])
    assert gaps_s.max() <= duration_s / 2
    assert 1 <= len(segment.windows_s) <= frames


def test_a_clip_that_costs_too_much_decoding_is_seen_by_its_keyframes() -> None:
    (cheap,) = plan_clip(media(10, side_px=100), packets(10, gop=100), Settings()).segments
    (dear,) = plan_clip(media(10, side_px=4_000), packets(10, gop=100), Settings()).segments
    assert len(cheap.frames) == 4
    assert dear.frames == (0, 100, 200)


def test_a_clip_without_picture_is_heard_alone() -> None:
    info = msgspec.structs.replace(media(8), video=None)
    (segment,) = plan_clip(info, packets(8, gop=250), Settings()).segments
    assert (segment.frames, len(segment.windows_s)) == ((), 3)


# ---- reading one


def test_a_clip_becomes_one_chunk_of_one_segment(clip: bytes) -> None:
    chunk = cut_clip(clip, Settings())
    assert len(chunk.segments) == len(chunk.input.transcripts) == 1
    assert chunk.input.transcripts == ("",)
    assert len(chunk.input.frame_indices) == 3
    assert ABSENT not in chunk.input.frame_indices
    assert len(chunk.input.audio_starts_s) == 3


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".mov"])
def test_a_clip_may_come_in_several_containers(tmp_path: Path, suffix: str) -> None:
    codecs = {"video_codec": "libvpx-vp9", "audio_codec": "libopus"} if suffix == ".webm" else {}
    path = make_video(tmp_path / f"clip{suffix}", duration_s=2, size=(64, 48), **codecs)
    assert len(cut_clip(path.read_bytes(), Settings()).input.frame_indices) == 3


Maker = Callable[[Path], Path]


def _picture(path: Path) -> Path:
    path.write_bytes(image_bytes("png"))
    return path


def _long(path: Path) -> Path:
    return make_video(path, duration_s=31, size=(64, 48), fps=5)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_text_file, "not_media"),
        (_picture, "not_media"),
        (make_empty_file, "empty"),
        (make_truncated_video, "truncated"),
        (_long, "too_long"),
    ],
)
def test_what_is_no_clip_is_refused_by_its_reason(tmp_path: Path, make: Maker, reason: str) -> None:
    data = make(tmp_path / "clip.mp4").read_bytes()
    with pytest.raises(MediaRefused) as refused:
        cut_clip(data, Settings())
    assert refused.value.reason == reason


# ---- searching with it


def test_a_clip_searches_by_its_looks_and_its_sound() -> None:
    assert plan_legs(CLIP, FULL) == {"visual": VIDEO, "sound": VIDEO, "fused": VIDEO}
    untrained = msgspec.structs.replace(FULL, fusion_trained=False)
    both = plan_legs(replace(CLIP, text="words"), untrained)
    assert both["visual"] == Aim(("clip", "video"))
    assert (both["sound"], both["speech"]) == (VIDEO, Aim(("sentence",)))
    unseen = replace(CLIP, text="words", input_weights=InputWeights(clip=0))
    assert plan_legs(unseen, FULL)["visual"] == Aim(("clip",))


@pytest.fixture
async def doors(bundle: Bundle, milvus_uri: str, tmp_path: Path) -> AsyncIterator[Doors]:
    able = msgspec.structs.replace(bundle, capabilities=FULL)
    async with opened_doors(able, milvus_uri, tmp_path) as opened:
        await add_video(opened, "bread", ["put the dough into the oven", "now eat"])
        yield opened


async def run(doors: Doors, query: Query, weights: LegWeights | None = None) -> Found:
    plan = plan_legs(query, doors.bundle.capabilities, weights)
    return await run_legs(plan, query, doors, "", k=10, timeout_s=20)


@pytest.mark.anyio
async def test_a_clip_is_found_by_what_it_looks_like(doors: Doors, clip: bytes) -> None:
    found = await run(doors, replace(CLIP, clip=clip))
    assert found.degraded == ()
    assert set(found.candidates) == {"visual", "sound", "fused"}
    best = found.candidates["visual"][0]
    assert (best.segment_id, best.raw) == ("bread-000005000", pytest.approx(1, abs=1e-4))


@pytest.mark.anyio
async def test_a_clip_has_one_unit_vector_a_leg(doors: Doors, clip: bytes) -> None:
    vectors = await embed_clip(clip, doors, 20)
    widths = {leg: vector.shape[0] for leg, vector in vectors.items()}
    dims = doors.bundle.dims
    assert widths == {"visual": dims.vision, "sound": dims.audio, "fused": dims.fused}
    np.testing.assert_allclose(vectors["visual"], looks(FILMED, dims.vision), atol=1e-6)


@pytest.mark.anyio
async def test_a_silent_clip_is_found_by_its_picture_and_a_sound_by_its_sound(
    doors: Doors, tmp_path: Path
) -> None:
    silent = make_silent_video(tmp_path / "silent.mp4", duration_s=2).read_bytes()
    assert set((await run(doors, replace(CLIP, clip=silent))).candidates) == {"visual", "fused"}
    heard = make_sound(tmp_path / "sound.mp4", duration_s=2).read_bytes()
    assert set((await run(doors, replace(CLIP, clip=heard))).candidates) == {"sound", "fused"}
    with pytest.raises(MediaRefused, match="the legs sound") as refused:
        await run(doors, replace(CLIP, clip=silent), LegWeights(sound=1))
    assert refused.value.reason == "no_streams"
