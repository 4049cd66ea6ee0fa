from pathlib import Path

import numpy as np
import pytest

from gateway.index.milvus import Milvus
from loadtest.bench_search_sizes import WARM_UP, bench_size
from loadtest.queries import unique_queries
from loadtest.synthetic import (
    TOPIC_SHARE,
    WIDTH,
    synthetic_doors,
    vector_of,
)

ROWS = 80
QUERIES = 5


def test_vectors_are_fixed_by_the_words_and_near_those_of_their_topic() -> None:
    texts = unique_queries(400)
    rows = np.stack([vector_of(text, "clip") for text in texts])
    assert rows.shape == (400, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.array_equal(vector_of(texts[0], "clip"), rows[0])
    assert abs(vector_of(texts[0], "sentence") @ rows[0]) < 0.2
    cosines = (rows @ rows.T)[np.triu_indices(400, 1)]
    near = cosines[cosines > TOPIC_SHARE / 2]
    assert near.mean() == pytest.approx(TOPIC_SHARE, abs=0.02)
    assert 0.01 < len(near) / len(cosines) < 0.06  # one topic in 32


@pytest.mark.anyio
async def test_a_size_is_measured_beside_its_floor_and_leaves_nothing_behind(
    milvus_uri: str, tmp_path: Path
) -> None:
    told: list[int] = []
    async with synthetic_doors(tmp_path, milvus_uri, ROWS, lambda n, _: told.append(n)) as doors:
        done: list[None] = []
        queries = unique_queries(WARM_UP + QUERIES)
        report = await bench_size(doors, ROWS, queries, 2, lambda: done.append(None))
        assert await doors.milvus.count(doors.bundle, "speech", timeout_s=10) == ROWS
    assert told[-1] == ROWS
    assert set(report.legs) == {"speech", "visual", "keyword"}
    assert [report.legs[leg].recall for leg in ("speech", "visual")] == [1.0, 1.0]
    assert report.legs["keyword"].recall is None
    assert report.search.count == report.bare.count == report.stages["gateway"].count == QUERIES
    assert len(done) == QUERIES * 5  # each leg alone, all of them, whole searches
    assert report.degraded == {}
    assert 0 < report.cpu_ms_bare < report.cpu_ms_search
    door = Milvus(milvus_uri)
    names = await door.inventory.collections(timeout_s=10)
    await door.close()
    assert not [name for name in names if "synthetic" in name]
