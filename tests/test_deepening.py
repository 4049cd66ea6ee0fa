"""A deeper analysis from what an earlier one left equals one from nothing, and looks at less."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ensembles.arrays import FloatArray
from gateway.catalogue.catalogue import SegmentFacts
from ingest.kept import SCENES_FILE, FoundScenes, Kept, read_kept, write_scenes
from ingest.media import NO_KEYFRAMES
from ingest.pipeline import Analysis
from ingest.scenes import Scene
from ingest.thumbnails import THUMBNAILS_FILE, write_thumbnails
from ingest.tokens import ARRAYS, TOKENS_FILE, WIDE
from tests.media import make_silent_video, make_sound, make_video
from tests.test_pipeline import BUNDLE, SRT, ProjectingEmbedder, analysed

SAME = 0.999  # cosine: half precision, and a decoder of sound that began somewhere else
WORDS = {"transcript": SRT, "transcript_name": "a.srt"}


def written(found: Analysis, folder: Path) -> Path:
    """Write what an analysis leaves beside its video, as the worker does."""
    folder.mkdir(exist_ok=True)
    found.tokens.write(folder / TOKENS_FILE)
    ids = [row.segment_id for row in found.segments]
    write_thumbnails(folder / THUMBNAILS_FILE, found.thumbnails, ids)
    write_scenes(folder / SCENES_FILE, found.found_scenes)
    return folder


def facts_of(found: Analysis) -> list[SegmentFacts]:
    return [
        SegmentFacts(
            segment_id=row.segment_id,
            video_id=row.video_id,
            start_s=row.start_s,
            end_s=row.end_s,
            text=row.text,
            scene_index=row.scene_index,
            index=row.index,
        )
        for row in found.segments
    ]


def kept_of(found: Analysis, folder: Path) -> Kept:
    return read_kept(written(found, folder), BUNDLE, facts_of(found))


def check_same(deep: Analysis, fresh: Analysis) -> None:
    """Everything but the rounding of what was kept."""
    assert deep.scenes == fresh.scenes
    assert deep.found_scenes == fresh.found_scenes
    assert deep.thumbnails == fresh.thumbnails
    for name in ARRAYS:
        here, there = getattr(deep.tokens, name), getattr(fresh.tokens, name)
        assert here.dtype == there.dtype
        assert here.shape == there.shape
        if name in WIDE:
            assert cosines(here, there).min(initial=1) > SAME
        else:
            np.testing.assert_allclose(here, there, atol=1e-6)
    for row, same in zip(deep.segments, fresh.segments, strict=True):
        for name in ("visual", "speech", "sound", "fused"):
            here, there = getattr(row, name), getattr(same, name)
            assert (here is None) == (there is None)
            if here is not None:
                assert cosines(here, there) > SAME
        bare = {"visual": None, "speech": None, "sound": None, "fused": None}
        assert replace(row, **bare) == replace(same, **bare)


def cosines(here: FloatArray, there: FloatArray) -> FloatArray:
    """Of unit rows, and of zeros with zeros."""
    nothing = ~here.any(axis=-1) & ~there.any(axis=-1)
    return np.where(nothing, 1, (here * there).sum(axis=-1))


def asked_frames(embedder: ProjectingEmbedder) -> int:
    inside = sum(int((chunk.frame_weights > 0).sum()) for chunk in embedder.chunks)
    return inside + sum(map(len, embedder.decoded))


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (lambda path: make_video(path, duration_s=12, gop=75, keyframes_at_cuts=False), {}),
        (lambda path: make_video(path, duration_s=12, gop=10), WORDS),
        (lambda path: make_video(path, duration_s=12, start_s=3.7), {"category": "lecture"}),
        (lambda path: make_silent_video(path), {}),
        (lambda path: make_sound(path.with_suffix(".m4a"), duration_s=30), WORDS),
    ],
    ids=["sparse keyframes", "with words", "late start", "silent", "sound alone"],
)
def test_more_pix_finds_what_it_would_have_found_at_once(
    tmp_path: Path, make: Callable[[Path], Path], known: dict[str, object]
) -> None:
    path = make(tmp_path / "a.mp4")
    found = analysed(path, pix=0, **known)
    for pix in (20, 200):  # 200 pay for the full tier
        looked = found.counts.frames
        embedder = ProjectingEmbedder()
        found = analysed(path, embedder, pix=pix, kept=kept_of(found, tmp_path / "kept"), **known)
        check_same(found, analysed(path, pix=pix, **known))
        assert found.counts.known_frames == looked
        assert asked_frames(embedder) == found.counts.frames - looked


def test_what_is_known_already_is_not_looked_at_again(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    found = analysed(path, **WORDS)
    embedder = ProjectingEmbedder()
    again = analysed(path, embedder, kept=kept_of(found, tmp_path / "kept"), **WORDS)
    assert embedder.chunks == []
    check_same(again, found)


def test_scenes_and_pictures_that_are_kept_are_not_found_anew(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    kept = kept_of(analysed(path), tmp_path / "kept")
    assert kept.scenes is not None
    told = FoundScenes((Scene(0.0, 6.0, 0.5),), kept.scenes.full_tier)
    found = analysed(path, kept=replace(kept, scenes=told))
    assert found.scenes == told.keyframe_tier
    assert found.thumbnails.keyframes == kept.keyframes


@pytest.mark.parametrize("name", [TOKENS_FILE, THUMBNAILS_FILE, SCENES_FILE])
@pytest.mark.parametrize("size", [0, 40, None], ids=["empty", "cut off", "missing"])
def test_what_is_damaged_is_found_anew(tmp_path: Path, name: str, size: int | None) -> None:
    path = make_video(tmp_path / "a.mp4")
    found = analysed(path, **WORDS)
    folder = written(found, tmp_path / "kept")
    data = (folder / name).read_bytes()
    (folder / name).unlink() if size is None else (folder / name).write_bytes(data[:size])
    kept = read_kept(folder, BUNDLE, facts_of(found))
    assert kept.tokens is None or name != TOKENS_FILE
    assert kept.keyframes == NO_KEYFRAMES or name != THUMBNAILS_FILE
    assert kept.scenes is None or name != SCENES_FILE
    check_same(analysed(path, pix=20, kept=kept, **WORDS), analysed(path, pix=20, **WORDS))


def test_words_that_changed_are_embedded_and_frames_are_not(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    kept = kept_of(analysed(path, **WORDS), tmp_path / "kept")
    other = {"transcript": SRT.replace(b"guitar", b"violin"), "transcript_name": "a.srt"}
    embedder = ProjectingEmbedder()
    check_same(analysed(path, embedder, kept=kept, **other), analysed(path, **other))
    assert asked_frames(embedder) == 0
    said = [text for chunk in embedder.chunks for text in chunk.transcripts if text]
    assert said == ["Tune the violin."]


def test_tokens_that_the_catalogue_does_not_know_tell_frames_but_no_words(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    folder = written(analysed(path, **WORDS), tmp_path / "kept")
    kept = read_kept(folder, BUNDLE, [])  # as after a kill between the tokens and the catalogue
    assert kept.texts == ()
    embedder = ProjectingEmbedder()
    check_same(analysed(path, embedder, kept=kept, **WORDS), analysed(path, **WORDS))
    assert asked_frames(embedder) == 0
    assert len([text for chunk in embedder.chunks for text in chunk.transcripts if text]) == 2


def test_tokens_of_another_bundle_are_not_taken(tmp_path: Path) -> None:
    found = analysed(make_video(tmp_path / "a.mp4"))
    folder = written(found, tmp_path / "kept")
    kept = read_kept(folder, msgspec.structs.replace(BUNDLE, version=2), facts_of(found))
    assert kept.tokens is None
    assert kept.scenes == found.found_scenes
