"""Ranked segments and entries for tests of what comes after the ranking."""

from gateway.catalogue.catalogue import SegmentFacts, VideoFacts
from gateway.schemas import Hit
from gateway.search.fuse import Fused
from gateway.search.group import Entry, group
from gateway.search.hits import hits_of
from gateway.search.page import Facts
from gateway.search.rerank import PixLaw, Scored, rerank

LAW = PixLaw(0.2, 10_000)


def entries(count: int) -> tuple[Entry, ...]:
    """As many videos of one segment each, best first."""
    found = [Fused(f"v{n}-000000000", f"v{n}", (), 1 - n / (count + 1)) for n in range(count)]
    return group(rerank(found, {}, {one.video_id: 0 for one in found}, LAW), "video")


def of_video(fusions: dict[int, float]) -> tuple[Scored, ...]:
    """Segments of one video, best first, by their place in it."""
    found = [Fused(f"v-{5_000 * n:09d}", "v", (), fusion) for n, fusion in fusions.items()]
    return rerank(found, {}, {"v": 0}, LAW)


def facts(count: int, gap_s: float = 0.0) -> dict[str, SegmentFacts]:
    """Where the segments of that video are: 5 s each."""
    return {
        f"v-{5_000 * n:09d}": SegmentFacts(
            segment_id=f"v-{5_000 * n:09d}",
            video_id="v",
            start_s=5.0 * n,
            end_s=5.0 * (n + 1) - gap_s,
            text=f"text {n}",
            scene_index=0,
            index=n,
        )
        for n in range(count)
    }


def segment_hits(fusions: dict[str, float], pix: dict[str, int]) -> list[Hit]:
    """A hit a video of one segment, as a reply has them."""
    found = [Fused(f"{video}-000000000", video, (), fusion) for video, fusion in fusions.items()]
    ranked = rerank(found, {}, pix, LAW)
    segments = {one.segment_id: place_of(one.video_id) for one in found}
    videos = {
        video: VideoFacts(
            video_id=video,
            title="",
            creator_id="anna",
            category=None,
            created_at="2026-01-01T00:00:00Z",
            duration_s=5.0,
            has_pictures=True,
        )
        for video in fusions
    }
    return list(hits_of(group(ranked, "segment"), Facts(segments, videos), ""))


def place_of(video_id: str) -> SegmentFacts:
    """The first five seconds of a video."""
    return SegmentFacts(
        segment_id=f"{video_id}-000000000",
        video_id=video_id,
        start_s=0.0,
        end_s=5.0,
        text="",
        scene_index=0,
        index=0,
    )
