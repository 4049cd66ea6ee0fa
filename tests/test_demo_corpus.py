from pathlib import Path

import av

from deploy.demo.corpus import NAME, QUERIES, SCENES, corpus_video
from training.world.scenes import ATTRIBUTES, SEGMENT_S

NAMES = ("background", "background_colour", "colour", "shape", "motion", "event", "pitch")


def test_the_made_up_video_is_written_once_and_holds_every_scene(tmp_path: Path) -> None:
    video = corpus_video(tmp_path)
    with av.open(str(video.path)) as container:
        assert container.duration is not None
        assert abs(container.duration / 1e6 - video.duration_s) < 0.2
        assert len(container.streams.audio) == 1
    written = video.path.stat()
    assert corpus_video(tmp_path) == video
    assert video.path.stat().st_mtime_ns == written.st_mtime_ns
    assert video.duration_s == len(SCENES) * SEGMENT_S


def test_the_scenes_are_of_the_world_that_the_models_know() -> None:
    for scene in SCENES:
        for name, value in zip(NAMES, scene, strict=True):
            assert value in (*ATTRIBUTES[name], *(("",) if name in ("event", "pitch") else ()))
    assert len(set(SCENES)) == len(SCENES)


def test_a_query_names_a_scene_of_the_video() -> None:
    for query in QUERIES:
        assert query.video == NAME
        assert 0 <= query.start_s < query.end_s <= len(SCENES) * SEGMENT_S
    wanted = [SCENES[round(query.start_s / SEGMENT_S)] for query in QUERIES]
    assert wanted[0][:5] == ("stripes", "blue", "red", "circle", "left")
    assert wanted[1][5] == "rising"
    assert [scene[5] for scene in SCENES].count("rising") == 1
