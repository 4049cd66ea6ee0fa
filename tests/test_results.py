"""What becomes of a ranking: the cut-off, pages, orders, moments and what hits tell."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ensembles.bundle import Bundle
from gateway.doors import Doors
from gateway.errors import CursorRefused, InvalidRequest
from gateway.schemas import InvestmentRequest, SearchReply, SearchRequest
from gateway.search.cutoff import WEAKEST
from gateway.search.search import search, version_of
from tests.corpora import add_video, opened_doors, picture

pytestmark = pytest.mark.anyio

COPIES = ("original", "copy")


@pytest.fixture
async def doors(bundle: Bundle, milvus_uri: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with opened_doors(bundle, milvus_uri, tmp_path) as opened:
        await add_video(opened, "bread", ["put the dough into the oven", "the loaf bakes", "bye"])
        for number in range(5):
            await add_video(opened, f"baker{number}", [f"the oven of baker {number}"])
        yield opened


async def ask(doors: Doors, query: str | None = "oven", **request: Any) -> SearchReply:
    return await search(SearchRequest(query=query, **request), doors, doors.settings)


def videos(reply: SearchReply) -> list[str]:
    return [hit.video_id for hit in reply.hits]


async def test_what_is_cut_off_is_counted_and_shown_when_asked_for(doors: Doors) -> None:
    everything = await ask(doors, "zeppelin quartz", cutoff=0.0, group="segment")
    assert everything.hits
    assert (everything.cut_off, everything.cut) == (0, ())
    strict = await ask(doors, "zeppelin quartz", cutoff=1.0, group="segment", show_cut=True)
    assert strict.cutoff == 1.0
    assert (strict.hits, strict.cut_off) == ((), len(everything.hits))
    assert [hit.video_id for hit in strict.cut] == [hit.video_id for hit in everything.hits]
    assert (await ask(doors, "zeppelin quartz", cutoff=1.0)).cut == ()


async def test_beside_a_sure_hit_others_need_half_of_its_evidence(doors: Doors) -> None:
    evidence = {
        hit.moments[0].segment_id: hit.moments[0].parts.evidence
        for hit in (await ask(doors, cutoff=0.0, group="segment")).hits
    }
    least = max(evidence.values())
    kept = await ask(doors, cutoff=least, group="segment")
    assert {hit.moments[0].segment_id for hit in kept.hits} == {
        name for name, value in evidence.items() if value >= least * WEAKEST
    }


async def test_nothing_matches_is_an_answer_with_the_default_cutoff(doors: Doors) -> None:
    asked = SearchRequest(query="zeppelin quartz")
    settings = msgspec.structs.replace(doors.settings, cutoff=0.3)
    reply = await search(asked, doors, settings)
    assert reply.hits == ()
    assert reply.cutoff == 0.3


async def test_pages_follow_each_other_without_gap_or_repetition(doors: Doors) -> None:
    whole = videos(await ask(doors, limit=100))
    seen: list[str] = []
    cursor = None
    while True:
        reply = await ask(doors, limit=2, cursor=cursor)
        seen += videos(reply)
        cursor = reply.next
        if cursor is None:
            break
    assert seen == whole
    assert len(seen) == len(set(seen)) == 6


async def test_an_investment_between_two_pages_repeats_nothing(doors: Doors) -> None:
    first = await ask(doors, limit=2)
    last = (await ask(doors, limit=100)).hits[-1].video_id
    doors.catalogue.ledger.invest(last, InvestmentRequest(pix=10**6, key="k"), lambda *_: False)
    second = await ask(doors, limit=100, cursor=first.next)
    assert not set(videos(first)) & set(videos(second))


async def test_a_cursor_of_another_index_or_query_is_refused(doors: Doors) -> None:
    cursor = (await ask(doors, limit=2)).next
    with pytest.raises(CursorRefused, match="another query"):
        await ask(doors, "dough", cursor=cursor)
    doors_v2 = msgspec.structs.replace(doors.bundle, key="another export")
    assert version_of(doors_v2) != version_of(doors.bundle)
    with pytest.raises(CursorRefused, match="not the `next`"):
        await ask(doors, cursor="x")


async def test_relevant_hits_may_be_sorted_by_pix_or_date(doors: Doors) -> None:
    doors.catalogue.ledger.invest("baker3", InvestmentRequest(pix=50, key="k"), lambda *_: False)
    by_pix = await ask(doors, sort="pix", pix_weight=0.0)
    assert videos(by_pix)[0] == "baker3"
    by_date = await ask(doors, sort="date")
    created = [hit.created_at for hit in by_date.hits]
    assert created == sorted(created, reverse=True)
    assert all(created)
    assert set(videos(by_date)) == set(videos(by_pix))


async def test_copies_become_one_hit_that_names_them(doors: Doors) -> None:
    for name in COPIES:
        await add_video(doors, name, ["a volcano erupts"], pictures_of="original")
    plain = await ask(doors, "volcano", cutoff=0.3)
    assert set(COPIES) <= set(videos(plain))
    reply = await ask(doors, "volcano", collapse=True, cutoff=0.3)
    (hit,) = [hit for hit in reply.hits if hit.video_id in COPIES]
    assert {hit.video_id, *hit.duplicates} == set(COPIES)


async def test_diversity_only_reorders_and_another_order_beside_it_is_refused(
    doors: Doors,
) -> None:
    plain, spread = await ask(doors), await ask(doors, diversity=0.8)
    assert sorted(videos(plain)) == sorted(videos(spread))
    assert videos(plain)[0] == videos(spread)[0]
    assert spread.degraded == ()
    with pytest.raises(InvalidRequest, match="two orders"):
        await ask(doors, diversity=0.8, sort="date")


async def test_a_hit_shows_its_words_and_where_its_picture_is(doors: Doors) -> None:
    reply = await ask(doors, "the ovens")
    for hit in reply.hits:
        for moment in hit.moments:
            words = {moment.text[span.start : span.end] for span in moment.highlights}
            assert words == ({"oven"} if "oven" in moment.text else set())
            address = f"/v1/videos/{hit.video_id}/thumbnails/{moment.segment_id}.webp"
            assert moment.thumbnail == address


async def test_every_fusion_rule_explains_its_parts(doors: Doors) -> None:
    for rule in ("weighted", "rrf", "minmax"):
        reply = await ask(doors, "oven", image=picture("bread", 0), fusion_rule=rule)
        for hit in reply.hits:
            parts = hit.moments[0].parts
            assert parts.fusion == min(1.0, sum(leg.part for leg in parts.legs))
    assert videos(reply)[0] == "bread"


async def test_what_if_pix_weighed_otherwise_keeps_the_rank_without_it(doors: Doors) -> None:
    doors.catalogue.ledger.invest("baker4", InvestmentRequest(pix=10**4, key="k"), lambda *_: False)
    plain = await ask(doors, pix_weight=0.0, group="segment")
    rich = await ask(doors, pix_weight=0.5, group="segment")
    without = {hit.moments[0].segment_id: hit.moments[0].parts.rank for hit in plain.hits}
    for hit in rich.hits:
        parts = hit.moments[0].parts
        assert parts.rank_without_pix == without[hit.moments[0].segment_id]
        assert parts.pix_cap == doors.settings.pix_cap
    (lifted,) = [hit for hit in rich.hits if hit.video_id == "baker4"]
    assert lifted.moments[0].parts.rank < lifted.moments[0].parts.rank_without_pix


async def test_the_reply_names_its_index(doors: Doors) -> None:
    assert (await ask(doors)).index_version == version_of(doors.bundle)
