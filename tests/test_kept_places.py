import numpy as np

from gateway.catalogue.catalogue import SegmentFacts
from ingest.kept_places import kept_segments, reweighed
from ingest.media import PacketIndex, no_packets
from ingest.tokens import Tokens


def packets(*ticks: int, tick_s: float = 0.04, start_s: float = 2.0) -> PacketIndex:
    """A picture stream whose packets are in decoding order, of a file whose clock begins late."""
    at = np.array(ticks, np.int64)
    return PacketIndex(
        ticks=at,
        times_s=at * tick_s - start_s,
        keyframes=at == min(ticks),
        sizes=np.full(len(ticks), 10, np.int32),
        tick_s=tick_s,
        end_s=10.0,
    )


def tokens(frame_times_s: list[float], frame_segments: list[int]) -> Tokens:
    frames, weights = len(frame_times_s), [0.5, 2.0]
    return Tokens(
        model_version="test-1",
        frames=np.ones((frames, 4), np.float32),
        frame_times_s=np.array(frame_times_s),
        frame_segments=np.array(frame_segments, np.int32),
        frame_weights=np.array([weights[owner] for owner in frame_segments], np.float32),
        audio=np.ones((2, 4), np.float32),
        audio_times_s=np.array([3.0, 1.0]),
        audio_segments=np.zeros(2, np.int32),
        audio_weights=np.full(2, 0.25, np.float32),
        text=np.ones((1, 4), np.float32),
        text_segments=np.array([1], np.int32),
        text_weights=np.array([3.0], np.float32),
        segment_starts_s=np.array([0.0, 5.0]),
        segment_ends_s=np.array([5.0, 9.0]),
    )


SEGMENTS = [
    SegmentFacts(
        segment_id=f"v-{n}",
        video_id="v",
        start_s=start_s,
        end_s=end_s,
        text="",
        scene_index=n,
        index=n,
    )
    for n, (start_s, end_s) in enumerate([(0.0, 5.0), (5.0, 9.0)])
]


def test_the_frames_and_windows_of_before_are_looked_at_again() -> None:
    shown = packets(50, 60, 55, 200, 190)  # 0, 0.4, 0.2, 6 and 5.6 s
    first, second = kept_segments(tokens([0.0, 0.2, 6.0], [0, 0, 1]), SEGMENTS, shown)
    assert (first.index, first.start_s, first.end_s) == (0, 0.0, 5.0)
    assert (first.frames, second.frames) == ((50, 55), (200,))
    assert (first.windows_s, second.windows_s) == ((1.0, 3.0), ())


def test_the_nearest_frame_takes_the_place_of_one_that_is_gone() -> None:
    near = kept_segments(tokens([0.31, 99.0], [0, 1]), SEGMENTS, packets(50, 55, 60))
    assert [segment.frames for segment in near] == [(60,), (60,)]
    one = kept_segments(tokens([0.3, 0.4], [0, 0]), SEGMENTS, packets(50))
    assert [segment.frames for segment in one] == [(50,), ()]


def test_a_video_without_picture_has_its_windows() -> None:
    first, _ = kept_segments(tokens([], []), SEGMENTS, no_packets())
    assert (first.frames, first.windows_s) == ((), (1.0, 3.0))


def test_tokens_weigh_what_those_before_them_weighed() -> None:
    kept = tokens([0.0, 0.2, 6.0], [0, 0, 1])
    fewer = tokens([6.0], [1])
    again = reweighed(fewer, kept)
    assert again.frame_weights.tolist() == [2.0]
    assert again.audio_weights.tolist() == [0.25, 0.25]
    assert again.text_weights.tolist() == [3.0]
