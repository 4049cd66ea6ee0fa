"""The synthetic corpus is searchable, complete, and the same every time."""

import numpy as np
import pytest

from gateway.index.rows import start_ms
from loadtest.harness.corpus import SEGMENTS_A_VIDEO, Base, fill, metadata, segment_id, video_rows
from tests.corpora import opened_doors

T = 20.0


@pytest.fixture
def base(bundle):
    rng = np.random.default_rng(0)

    def units(width):
        rows = rng.standard_normal((9, width))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    texts = [f"text {number}" for number in range(9)]
    return Base(texts, units(bundle.dims.sentence), units(bundle.dims.vision))


def test_a_synthetic_video_is_the_same_every_time_and_another_one_differs(bundle, base):
    one, same, other = (video_rows(number, bundle, base) for number in (3, 3, 4))
    assert [row.text for row in one] == [row.text for row in same]
    assert all((a.speech == b.speech).all() for a, b in zip(one, same, strict=True))
    assert not (one[0].speech == other[0].speech).all()
    assert metadata(3, base) == metadata(3, base)


def test_vectors_are_unit_and_near_what_their_text_embeds_to(bundle, base):
    for row in video_rows(0, bundle, base):
        for leg in ("visual", "speech", "sound", "fused"):
            assert np.linalg.norm(row.vector(leg)) == pytest.approx(1, abs=1e-5)
        meant = base.sentence[base.texts.index(row.text)]
        assert 0.85 < float(row.speech @ meant) < 0.99


def test_a_segments_id_tells_its_start():
    assert start_ms(segment_id(7, 3)) == 15_000
    assert len({segment_id(7, index) for index in range(SEGMENTS_A_VIDEO)}) == SEGMENTS_A_VIDEO


@pytest.mark.anyio
async def test_a_corpus_is_searchable_leaves_no_work_and_is_loaded_once(
    bundle, milvus_uri, tmp_path
):
    async with opened_doors(bundle, milvus_uri, tmp_path) as doors:
        told = []

        async def load(segments):
            return await fill(
                doors.catalogue,
                bundle,
                doors.milvus,
                doors.triton,
                segments,
                lambda done, total: told.append((done, total)),
            )

        assert await load(SEGMENTS_A_VIDEO + 1) == 2 * SEGMENTS_A_VIDEO
        assert told[-1] == (80, 80)
        assert await doors.milvus.count(bundle, "speech", timeout_s=T) == 80
        video = doors.catalogue.library.video("corpus-31-1")
        assert (video.state, video.segments) == ("ready", SEGMENTS_A_VIDEO)
        assert not doors.catalogue.jobs.is_due()
        assert doors.catalogue.analyses.outdated(10) == ()
        assert await load(SEGMENTS_A_VIDEO + 1) == 0
        assert await load(3 * SEGMENTS_A_VIDEO) == SEGMENTS_A_VIDEO
