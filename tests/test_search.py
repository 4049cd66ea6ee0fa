import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensembles.bundle import INTENTS, Bundle, IntentModel
from gateway.doors import Doors
from gateway.errors import DeadlineExceeded, InvalidRequest, NotFound, TooLarge, Unavailable
from gateway.index.milvus import Milvus
from gateway.schemas import Filters, InvestmentRequest, LegWeights, SearchReply, SearchRequest
from gateway.search import page, within
from gateway.search.exclude import split_exclusions
from gateway.search.search import search
from gateway.settings import Settings
from gateway.triton import Triton
from tests.conftest import free_port, make_bundle
from tests.corpora import add_video, opened_doors, picture, store
from tests.fake_triton import FakeTriton, meaning

pytestmark = pytest.mark.anyio


LONG_AGO = datetime(2001, 1, 1, tzinfo=timezone(timedelta(hours=-5)))
FAR_AHEAD = datetime(9000, 1, 1, tzinfo=UTC)


async def fill(doors: Doors) -> None:
    await add_video(
        doors,
        "bread",
        ["put the dough into the oven", "the loaf is ready to eat", "see you"],
        title="Evening",
        category="food",
        creator_id="anna",
        tags=("kitchen", "slow"),
        language="en",
        pix=10,
    )
    await add_video(
        doors,
        "guitar",
        ["every chord has strings", "", "the fretboard is made of rosewood"],
        category="music",
        creator_id="bob",
        tags=("slow",),
    )
    await add_video(doors, "volcano", ["lava left the crater"], category="nature", pix=500)


@pytest.fixture
async def doors(bundle: Bundle, milvus_uri: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with opened_doors(bundle, milvus_uri, tmp_path) as opened:
        await fill(opened)
        yield opened


async def ask(doors: Doors, query: str | None = None, **request: Any) -> SearchReply:
    return await search(SearchRequest(query=query, **request), doors, doors.settings)


def videos(reply: SearchReply) -> list[str]:
    return [hit.video_id for hit in reply.hits]


async def test_a_paraphrase_without_a_shared_word_finds_the_right_moment(doors: Doors) -> None:
    hit = (await ask(doors, "baking")).hits[0]
    assert (hit.video_id, hit.title, hit.creator_id) == ("bread", "Evening", "anna")
    assert (hit.start_s, hit.end_s) == (hit.moments[0].start_s, hit.moments[0].end_s)
    assert hit.moments[0].text == "put the dough into the oven the loaf is ready to eat"
    assert {leg.leg for leg in hit.moments[0].parts.legs} == {"speech"}


async def test_a_rare_word_finds_the_segment_that_says_it(doors: Doors) -> None:
    hit = (await ask(doors, "rosewood")).hits[0]
    assert (hit.video_id, hit.start_s) == ("guitar", 10.0)


async def test_an_image_finds_the_segment_that_looks_like_it(doors: Doors) -> None:
    reply = await ask(doors, image=picture("guitar", 1))
    assert (reply.hits[0].video_id, reply.hits[0].start_s) == ("guitar", 5.0)
    (leg,) = reply.hits[0].moments[0].parts.legs
    assert leg.relevance == pytest.approx(1, abs=1e-3)
    assert reply.degraded == ()


async def test_words_that_nothing_is_like_do_not_hide_what_the_picture_finds(doors: Doors) -> None:
    sees = msgspec.structs.replace(doors.bundle.capabilities, words_to_pixels=True)
    able = replace(doors, bundle=msgspec.structs.replace(doors.bundle, capabilities=sees))
    image, cutoff = picture("guitar", 1), Settings().cutoff
    reply = await ask(able, "zzz", image=image, cutoff=cutoff, group="segment")
    assert [hit.moments[0].segment_id for hit in reply.hits] == ["guitar-000005000"]
    (leg,) = reply.hits[0].moments[0].parts.legs
    assert (leg.relevance, leg.evidence) == (pytest.approx(0.5), pytest.approx(1))
    neither = await ask(able, "zzz", image=b"another", cutoff=cutoff)
    assert neither.hits == ()


async def test_every_score_is_made_up_of_its_parts(doors: Doors) -> None:
    reply = await ask(doors, "oven lava", image=picture("bread", 1), group="segment", limit=100)
    assert len(reply.hits) > 2
    for hit in reply.hits:
        (moment,) = hit.moments
        parts = moment.parts
        assert hit.score == moment.score == parts.relevance * (1 + parts.pix_boost)
        assert parts.relevance == min(1.0, parts.fusion + parts.coherence)
        assert parts.fusion == min(1.0, sum(leg.weight * leg.strength for leg in parts.legs))
    weights = {leg.leg: leg.weight for hit in reply.hits for leg in hit.moments[0].parts.legs}
    assert sum(weights.values()) == pytest.approx(1)


async def test_neighbouring_segments_that_match_lift_each_other(doors: Doors) -> None:
    only = Filters(video_id=("bread",))
    reply = await ask(doors, "bread", group="segment", filters=only)
    lifted = {hit.start_s: hit.moments[0].parts.coherence for hit in reply.hits}
    assert lifted[0.0] == lifted[5.0] > 0


async def test_pix_counts_at_the_next_search_within_its_bound(doors: Doors) -> None:
    await add_video(doors, "rival", ["put the dough into the oven"])
    request: dict[str, Any] = {"query": "put the dough into the oven", "group": "segment"}
    before = await ask(doors, **request)
    plain = {hit.video_id: hit.moments[0].parts for hit in before.hits}
    investment = InvestmentRequest(pix=10**6, key="k")
    doors.catalogue.ledger.invest("rival", investment, lambda *_: False)
    after = await ask(doors, **request)
    rich = next(hit for hit in after.hits if hit.video_id == "rival")
    assert rich.moments[0].parts.relevance == plain["rival"].relevance
    assert rich.score == pytest.approx(plain["rival"].relevance * 1.2)
    assert rich.moments[0].parts.pix == 10**6
    unweighted = await ask(doors, pix_weight=0.0, **request)
    assert {hit.video_id: hit.score for hit in unweighted.hits}["rival"] == pytest.approx(
        plain["rival"].relevance
    )


async def test_moments_of_a_video_are_one_hit_and_segments_are_many(doors: Doors) -> None:
    grouped = await ask(doors, "dough loaf", group="video")
    plain = await ask(doors, "dough loaf", group="segment")
    assert videos(grouped).count("bread") == 1
    assert videos(plain).count("bread") > 1
    assert grouped.hits[0].moments[0].parts == plain.hits[0].moments[0].parts
    assert len(grouped.hits[0].moments[0].segments) > len(plain.hits[0].moments[0].segments) == 1


async def test_the_limit_holds(doors: Doors) -> None:
    assert len((await ask(doors, "dough lava chord", limit=1)).hits) == 1


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(category=("food",)), {"bread"}),
        (Filters(category=("food", "music")), {"bread", "guitar"}),
        (Filters(creator_id=("bob",)), {"guitar"}),
        (Filters(tags=("slow",)), {"bread", "guitar"}),
        (Filters(tags=("slow", "kitchen")), {"bread"}),
        (Filters(language=("en",)), {"bread"}),
        (Filters(video_id=("volcano", "unknown")), {"volcano"}),
        (Filters(min_pix=10), {"bread", "volcano"}),
        (Filters(min_pix=11), {"volcano"}),
        (Filters(min_pix=10**9), set()),
        (Filters(max_duration_s=19.9), set()),
        (Filters(min_duration_s=20.0, max_duration_s=20.0), {"bread", "guitar", "volcano"}),
        (Filters(created_after=LONG_AGO), {"bread", "guitar", "volcano"}),
        (Filters(created_before=LONG_AGO), set()),
        (Filters(created_after=FAR_AHEAD), set()),
        (Filters(created_after=LONG_AGO, created_before=FAR_AHEAD, min_pix=11), {"volcano"}),
    ],
)
async def test_filters_hold(doors: Doors, filters: Filters, expected: set[str]) -> None:
    reply = await ask(doors, "dough chord lava", filters=filters)
    assert set(videos(reply)) == expected


async def test_too_many_rich_videos_to_name_are_filtered_afterwards(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MAX_FILTER_VIDEOS", 1)
    reply = await ask(doors, "dough chord lava", filters=Filters(min_pix=10))
    assert set(videos(reply)) == {"bread", "volcano"}
    assert reply.degraded == ()


async def with_few_candidates_and_many_poor_videos(doors: Doors) -> Doors:
    for number in range(8):
        await add_video(doors, f"poor-{number}", ["dough dough dough"], pix=1)
    return replace(doors, settings=msgspec.structs.replace(doors.settings, candidates_per_leg=2))


async def test_a_page_is_full_though_poor_videos_are_nearer_than_the_many_rich_ones(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = await with_few_candidates_and_many_poor_videos(doors)
    rich: dict[str, Any] = {"filters": Filters(min_pix=10), "group": "segment"}
    named = await ask(few, "dough", **rich)
    assert videos(named)[0] == "bread"
    monkeypatch.setattr(page, "MAX_FILTER_VIDEOS", 1)
    looked_through = await ask(few, "dough", **rich)
    assert looked_through.hits == named.hits
    assert looked_through.degraded == ()


async def test_a_page_that_may_lack_hits_says_so(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = await with_few_candidates_and_many_poor_videos(doors)
    monkeypatch.setattr(page, "MAX_FILTER_VIDEOS", 1)
    monkeypatch.setattr(within, "DEEPER", 2)
    reply = await ask(few, "dough", filters=Filters(min_pix=10))
    assert reply.hits == ()
    (reason,) = reply.degraded
    assert reason.startswith("filters: only the nearest 4 segments of keyword, speech were looked")


async def test_dates_filter_by_the_moment_of_upload(doors: Doors) -> None:
    created = [
        datetime.fromisoformat(doors.catalogue.library.video(video_id).created_at)
        for video_id in ("bread", "guitar", "volcano")
    ]
    assert created == sorted(created)
    since = await ask(doors, "dough chord lava", filters=Filters(created_after=created[1]))
    assert set(videos(since)) == {"guitar", "volcano"}
    until = await ask(doors, "dough chord lava", filters=Filters(created_before=created[1]))
    assert set(videos(until)) == {"bread"}


async def test_excluded_words_are_in_no_hit(doors: Doors) -> None:
    request: dict[str, Any] = {"group": "segment", "limit": 100}
    before = await ask(doors, "dough loaf", **request)
    after = await ask(doors, "dough loaf -Oven", **request)
    assert any("oven" in hit.moments[0].text for hit in before.hits)
    assert not any("oven" in hit.moments[0].text for hit in after.hits)
    assert {hit.moments[0].segment_id for hit in after.hits} == {
        hit.moments[0].segment_id for hit in before.hits if "oven" not in hit.moments[0].text
    }
    phrase = await ask(doors, 'dough loaf -"ready to eat"', **request)
    assert {hit.moments[0].text for hit in phrase.hits} & {"the loaf is ready to eat"} == set()


async def test_what_is_taken_away_ranks_lower(doors: Doors) -> None:
    both = {hit.video_id: hit.score for hit in (await ask(doors, "guitar lava")).hits}
    less = {h.video_id: h.score for h in (await ask(doors, "guitar lava", not_="lava")).hits}
    assert less["guitar"] > both["guitar"]
    assert less.get("volcano", 0.0) < both["volcano"]


async def test_at_the_level_of_scenes_each_scene_is_found_once(doors: Doors) -> None:
    request: dict[str, Any] = {"group": "segment", "limit": 100, "cutoff": 0.0}
    segments = (await ask(doors, "dough loaf", **request)).hits
    scenes = (await ask(doors, "dough loaf", filters=Filters(level="scene"), **request)).hits
    assert len(segments) > len({hit.video_id for hit in segments})  # a video here has one scene
    first = {hit.video_id: hit.moments[0].segment_id for hit in reversed(segments)}
    assert {hit.video_id: hit.moments[0].segment_id for hit in scenes} == first
    assert len(scenes) == len(first)


async def test_more_like_a_segment_finds_others_and_never_itself(doors: Doors) -> None:
    await add_video(doors, "rival", ["put the dough into the oven"])
    request: dict[str, Any] = {"like": "bread-000000000", "group": "segment"}
    hits = (await ask(doors, **request)).hits
    found = [hit.moments[0].segment_id for hit in hits]
    assert {"rival-000000000", "bread-000005000"} <= set(found)
    assert "bread-000000000" not in found
    others = await ask(doors, own_video=False, **request)
    assert others.hits[0].video_id == "rival"
    assert "bread" not in videos(others)


async def test_more_like_a_segment_that_searches_cannot_find_is_not_found(doors: Doors) -> None:
    doors.catalogue.library.begin_delete("bread")
    with pytest.raises(NotFound, match="bread-000000000"):
        await ask(doors, like="bread-000000000")


async def test_asking_for_the_only_video_that_is_left_out_is_refused(doors: Doors) -> None:
    only = Filters(video_id=("bread",))
    with pytest.raises(InvalidRequest, match="own_video leaves out"):
        await ask(doors, like="bread-000000000", own_video=False, filters=only)


async def test_what_the_words_ask_for_weighs_the_legs_and_is_told(doors: Doors) -> None:
    logits = np.zeros((doors.bundle.dims.sentence, len(INTENTS)), np.float32)
    logits[:, INTENTS.index("speech")] = 100 * meaning("dough", doors.bundle.dims.sentence)
    intents = IntentModel(INTENTS, logits.tobytes(), (0.0,) * len(INTENTS))
    able = replace(doors, bundle=msgspec.structs.replace(doors.bundle, intents=intents))
    read = await ask(able, "dough")
    assert (read.mode, read.intents["speech"]) == ("auto", pytest.approx(0.95))
    weighed = await ask(able, "dough", mode="vision_heavy")
    assert (weighed.mode, weighed.intents) == ("vision_heavy", {})
    assert (await ask(doors, "dough")).intents == {}  # its bundle cannot read
    by_mode = {leg.leg: leg.weight for leg in weighed.hits[0].moments[0].parts.legs}
    by_intent = {leg.leg: leg.weight for leg in read.hits[0].moments[0].parts.legs}
    assert by_intent["speech"] == pytest.approx(0.75, abs=0.01)
    assert by_mode["speech"] > 0.8  # as clear as the words are


async def test_what_is_being_deleted_or_was_never_finished_is_not_found(doors: Doors) -> None:
    assert "bread" in videos(await ask(doors, "baking"))
    doors.catalogue.library.begin_delete("bread")
    assert "bread" not in videos(await ask(doors, "baking"))


async def test_segments_that_the_catalogue_does_not_have_are_left_out(doors: Doors) -> None:
    store(doors.catalogue, "volcano", [])
    assert "volcano" not in videos(await ask(doors, "lava"))


async def test_nothing_similar_is_an_answer(
    bundle: Bundle, milvus_uri: str, tmp_path: Path
) -> None:
    async with opened_doors(bundle, milvus_uri, tmp_path) as doors:
        reply = await ask(doors, "anything")
    assert (reply.hits, reply.degraded) == ((), ())


async def test_a_category_shifts_weights(doors: Doors) -> None:
    request: dict[str, Any] = {"query": "dough", "image": picture("bread", 0), "group": "segment"}
    plain = await ask(doors, **request)
    tutorial = await ask(doors, category="tutorial", **request)
    shares = [
        {leg.leg: leg.weight for leg in reply.hits[0].moments[0].parts.legs}
        for reply in (plain, tutorial)
    ]
    assert shares[1]["speech"] > shares[0]["speech"]


async def test_explicit_weights_replace_the_mode(doors: Doors) -> None:
    reply = await ask(doors, "oven", weights=LegWeights(keyword=0.5))
    assert [leg.leg for leg in reply.hits[0].moments[0].parts.legs] == ["keyword"]
    assert reply.hits[0].moments[0].parts.legs[0].weight == 1


async def test_without_triton_keywords_answer_with_their_full_weight(doors: Doors) -> None:
    down = FakeTriton(doors.bundle, error=Unavailable("triton", "no"))
    reply = await ask(replace(doors, triton=cast(Triton, down)), "rosewood")
    assert reply.degraded == ("speech: triton unavailable",)
    assert videos(reply) == ["guitar"]
    assert reply.hits[0].moments[0].parts.legs[0].weight == 1


async def test_without_milvus_the_search_fails_at_once_with_the_part(doors: Doors) -> None:
    nowhere = Milvus(f"http://127.0.0.1:{free_port()}")
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable) as caught:
            await ask(replace(doors, milvus=nowhere), "dough")
    assert caught.value.part == "milvus"
    await nowhere.close()


async def test_a_deadline_too_short_for_anything_is_told(doors: Doors) -> None:
    slow = cast(Triton, FakeTriton(doors.bundle, delay_s=5))
    with pytest.raises(DeadlineExceeded, match="the deadline of 50 ms"):
        await ask(replace(doors, triton=slow), image=b"x", deadline_ms=50)


async def test_a_catalogue_that_hangs_is_left_in_time(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "READ_TIMEOUT_S", 0.0)
    with pytest.raises(DeadlineExceeded) as caught:
        await ask(doors, "dough")
    assert caught.value.part == "catalogue"


async def test_the_deadline_bounds_the_catalogue_too(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "READ_TIMEOUT_S", 3_600.0)
    answer = threading.Event()
    monkeypatch.setattr(doors.catalogue, "pix_of", lambda *_: answer.wait())
    with pytest.raises(DeadlineExceeded) as caught:
        await ask(doors, "dough", deadline_ms=500)
    answer.set()
    assert caught.value.part == "catalogue"


async def test_stage_times_add_up(doors: Doors) -> None:
    slow = cast(Triton, FakeTriton(doors.bundle, delay_s=0.05))
    times = (await ask(replace(doors, triton=slow), "dough")).stage_ms
    assert times.embed >= 49  # a busy machine only makes it longer
    assert min(times.legs, times.catalogue, times.gateway) > 0
    assert times.total == pytest.approx(times.embed + times.legs + times.catalogue + times.gateway)


async def test_the_reply_names_the_bundle(doors: Doors) -> None:
    assert (await ask(doors, "dough")).model_version == doors.bundle.id


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (SearchRequest(), InvalidRequest),
        (SearchRequest(query="   "), InvalidRequest),
        (SearchRequest(query="é" * 8_000), TooLarge),
        (SearchRequest(query="a", weights=LegWeights()), InvalidRequest),
        (SearchRequest(query="a", filters=Filters(category=("a\nb",))), InvalidRequest),
    ],
)
async def test_a_request_that_cannot_be_answered_is_refused(
    doors: Doors, request_: SearchRequest, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await search(request_, doors, doors.settings)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.text(min_size=1, max_size=200).filter(lambda text: split_exclusions(text.strip())[0])
)
def test_any_words_are_answered_the_same_twice(
    words: str, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def twice() -> None:
        folder = tmp_path_factory.mktemp("any")
        async with opened_doors(BUNDLE, milvus_uri, folder) as doors:
            store(doors.catalogue, "v", ["text"])
            first, second = [await ask(doors, words) for _ in range(2)]
            assert first.hits == second.hits

    asyncio.run(twice())


BUNDLE = make_bundle()


async def test_every_reply_of_untrained_models_says_so(doors: Doors) -> None:
    assert not (await ask(doors, "baking")).random_weights
    untrained = replace(doors, bundle=msgspec.structs.replace(doors.bundle, random_weights=True))
    assert (await ask(untrained, "baking")).random_weights
