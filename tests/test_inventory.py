from collections.abc import AsyncIterator

import pytest

from ensembles.bundle import Bundle
from gateway.index import inventory
from gateway.index.milvus import Milvus
from gateway.index.rows import LEGS, IndexRow
from gateway.index.schema import collection_name, is_ours
from tests.conftest import make_bundle
from tests.corpora import index_row
from tests.gateways import unit

pytestmark = pytest.mark.anyio

T = 10.0


@pytest.fixture
async def milvus(milvus_uri: str, bundle: Bundle) -> AsyncIterator[Milvus]:
    door = Milvus(milvus_uri)
    await door.ensure_collections(bundle, timeout_s=T)
    yield door
    await door.close()


def row(bundle: Bundle, video_id: str, number: int) -> IndexRow:
    vectors = {"visual": unit(bundle.dims.vision), "speech": unit(bundle.dims.sentence)}
    return index_row(video_id, number, text="some words", **vectors)


async def test_all_rows_of_a_leg_are_listed_once_in_pages(
    milvus: Milvus, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(bundle, video, n) for video in ("a", "b-1", "B", "_", "z") for n in range(9)]
    await milvus.write(bundle, rows[::-1], timeout_s=T)
    monkeypatch.setattr(inventory, "PAGE_ROWS", 7)

    pages = [page async for page in milvus.inventory.rows(bundle, "visual", timeout_s=T)]

    assert sorted(item for page in pages for item in page) == sorted(
        (r.segment_id, r.video_id) for r in rows
    )
    assert max(map(len, pages)) <= 7


async def test_an_empty_leg_has_no_rows(milvus: Milvus, bundle: Bundle) -> None:
    assert [page async for page in milvus.inventory.rows(bundle, "sound", timeout_s=T)] == []
    assert await milvus.inventory.segment_ids(bundle, "sound", "a", timeout_s=T) == set()


async def test_a_leg_that_was_never_made_has_no_segments(milvus: Milvus) -> None:
    never = make_bundle()
    assert await milvus.inventory.segment_ids(never, "visual", "a", timeout_s=T) == set()


async def test_a_video_is_erased_from_the_collections_of_every_bundle(
    milvus: Milvus, bundle: Bundle
) -> None:
    older = make_bundle()
    await milvus.ensure_collections(older, timeout_s=T)
    for one in (bundle, older):
        await milvus.write(one, [row(one, "gone", 0), row(one, "kept", 0)], timeout_s=T)

    assert await milvus.inventory.erase_video("gone", timeout_s=T) == {}

    for one in (bundle, older):
        for leg in ("visual", "speech", "keyword"):
            assert await milvus.count(one, leg, "gone", timeout_s=T) == 0
            assert await milvus.count(one, leg, "kept", timeout_s=T) == 1


async def test_only_the_segments_named_are_deleted(milvus: Milvus, bundle: Bundle) -> None:
    rows = [row(bundle, "v", n) for n in range(4)]
    await milvus.write(bundle, rows, timeout_s=T)

    gone = [rows[1].segment_id, rows[3].segment_id]
    await milvus.inventory.delete_segments(bundle, "speech", gone, timeout_s=T)

    left = await milvus.inventory.segment_ids(bundle, "speech", "v", timeout_s=T)
    assert left == {rows[0].segment_id, rows[2].segment_id}
    assert await milvus.count(bundle, "visual", "v", timeout_s=T) == 4


async def test_a_dropped_bundle_can_be_made_again(milvus: Milvus, bundle: Bundle) -> None:
    await milvus.write(bundle, [row(bundle, "v", 0)], timeout_s=T)
    await milvus.inventory.drop(bundle, timeout_s=T)
    names = {collection_name(bundle, leg) for leg in LEGS}
    assert not names & set(await milvus.inventory.collections(timeout_s=T))

    await milvus.ensure_collections(bundle, timeout_s=T)
    assert names <= set(await milvus.inventory.collections(timeout_s=T))
    assert await milvus.count(bundle, "visual", timeout_s=T) == 0


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("visual_mini_1", True),
        ("keyword_base-balanced_12", True),
        ("visual_mini", False),
        ("somebody_elses_1", False),
        ("visual_mini_1; drop", False),
        ("", False),
    ],
)
def test_collections_of_others_are_left_alone(name: str, ours: bool) -> None:
    assert is_ours(name) is ours
