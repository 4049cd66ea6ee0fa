import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pytest

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle, Capabilities
from gateway.doors import Doors
from gateway.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    MediaRefused,
    NotFound,
    Overloaded,
    PixserveError,
    Unavailable,
)
from gateway.index.milvus import Milvus
from gateway.index.schema import Engine
from gateway.schemas import InputWeights, LegWeights
from gateway.search.legs import Found, run_legs
from gateway.search.plan import BY_WORDS, Aim, plan_legs
from gateway.search.query import Query
from gateway.triton import Triton
from tests.conftest import free_port
from tests.corpora import add_video, index_row, opened_doors, picture
from tests.fake_triton import FakeTriton, check_query_embeddings, meaning
from tests.media import image_bytes, wav_bytes

WORDS = Query("baking a loaf", b"", b"", 1.0)
MINI = Capabilities(words_to_pixels=False, words_to_sounds=False, fusion_trained=False)
FULL = Capabilities(words_to_pixels=True, words_to_sounds=False, fusion_trained=True)
HEARS = Capabilities(words_to_pixels=False, words_to_sounds=True, fusion_trained=False)


@pytest.fixture
async def doors(bundle: Bundle, milvus_uri: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with opened_doors(bundle, milvus_uri, tmp_path) as opened:
        await add_video(opened, "bread", ["put the dough into the oven", "now eat"])
        yield opened


def with_triton(doors: Doors, **behaviour: object) -> Doors:
    fake = FakeTriton(doors.bundle, **behaviour)  # type: ignore[arg-type]
    return replace(doors, triton=cast(Triton, fake))


def calls(doors: Doors) -> list[str]:
    return cast(FakeTriton, doors.triton).calls


async def run(doors: Doors, query: Query = WORDS, timeout_s: float = 5.0) -> Found:
    plan = plan_legs(query, doors.bundle.capabilities)
    return await run_legs(plan, query, doors, "", k=10, timeout_s=timeout_s)


# ---- which legs

SPEECH = Aim(("sentence",))
CLIP = Aim(("clip",))
IMAGE = Aim(("image",))


def test_words_search_sentences_and_keywords_where_they_cannot_be_compared_with_pixels() -> None:
    assert plan_legs(WORDS, MINI) == {"keyword": BY_WORDS, "speech": SPEECH}


def test_words_search_pixels_too_where_they_can() -> None:
    expected = {"keyword": BY_WORDS, "speech": SPEECH, "visual": CLIP, "fused": CLIP}
    assert plan_legs(WORDS, FULL) == expected


def test_an_image_searches_by_its_looks_together_with_the_words() -> None:
    image = Query("", b"image", b"", 1.0)
    assert plan_legs(image, MINI) == {"visual": IMAGE}
    assert plan_legs(replace(image, text="words"), MINI)["visual"] == IMAGE
    both = plan_legs(replace(image, text="words"), FULL)
    assert both["visual"] == both["fused"] == Aim(("clip", "image"))
    assert both["speech"] == SPEECH


def test_a_sound_searches_by_its_sound() -> None:
    assert plan_legs(Query("", b"", b"sound", 1.0), FULL) == {"sound": Aim(("sound",))}


def test_words_search_sounds_where_they_share_a_space() -> None:
    assert plan_legs(WORDS, HEARS)["sound"] == CLIP
    assert plan_legs(WORDS, HEARS, LegWeights(sound=1.0)) == {"sound": CLIP}


def test_a_sound_and_words_search_sounds_together() -> None:
    both = plan_legs(replace(WORDS, audio=b"sound"), HEARS)
    assert (both["sound"], both["speech"]) == (Aim(("clip", "sound")), SPEECH)
    apart = plan_legs(replace(WORDS, audio=b"sound"), HEARS, sound_text=True)
    assert apart["sound"] == Aim(("sound_text", "sound"))


def test_a_segment_searches_every_leg_with_the_vector_that_it_has_there() -> None:
    like = Aim(("like",))
    query = Query("", b"", b"", 1.0, like="bread-000000000")
    assert plan_legs(query, MINI) == {"visual": like, "speech": like, "sound": like}
    both = plan_legs(replace(query, text="words"), FULL)
    assert (both["fused"], both["keyword"]) == (Aim(("clip", "like")), BY_WORDS)


def test_an_input_without_weight_is_left_out_of_the_vectors() -> None:
    query = Query("words", b"image", b"", 1.0, input_weights=InputWeights(text=0))
    assert plan_legs(query, FULL) == {"keyword": BY_WORDS, "visual": IMAGE, "fused": IMAGE}
    nothing = Query("", b"image", b"", 1.0, input_weights=InputWeights(image=0))
    with pytest.raises(InvalidRequest, match="weights of the inputs"):
        plan_legs(nothing, FULL)


def test_what_is_taken_away_is_taken_where_words_can_be_compared() -> None:
    plan = plan_legs(replace(WORDS, away="cats", image=b"image"), FULL)
    assert plan["visual"] == Aim(("clip", "image"), "clip")
    assert plan["speech"] == Aim(("sentence",), "sentence")
    assert plan["keyword"] == BY_WORDS
    with pytest.raises(InvalidRequest, match="exclude words with -word"):
        plan_legs(Query("", b"image", b"", 1.0, away="cats"), MINI)


def test_a_leg_without_weight_is_not_run() -> None:
    assert plan_legs(WORDS, MINI, LegWeights(keyword=0.1)) == {"keyword": BY_WORDS}


@pytest.mark.parametrize("weights", [LegWeights(), LegWeights(visual=1.0)])
def test_weights_that_leave_no_leg_are_refused(weights: LegWeights) -> None:
    with pytest.raises(InvalidRequest, match="keyword, speech"):
        plan_legs(WORDS, MINI, weights)


# ---- running them

pytestmark = pytest.mark.anyio


async def test_the_fake_keeps_the_contract(bundle: Bundle) -> None:
    await check_query_embeddings(FakeTriton(bundle), bundle, image_bytes("png"))


async def test_words_are_found_by_meaning_and_by_keyword(doors: Doors) -> None:
    found = await run(doors)
    assert found.degraded == ()
    assert found.candidates["speech"][0].segment_id == "bread-000000000"
    assert found.candidates["keyword"] == ()
    assert found.embed_s >= 0
    assert found.legs_s > 0


async def test_only_the_vectors_that_are_needed_are_asked_for_and_then_remembered(
    doors: Doors,
) -> None:
    await run(doors)
    await run(doors)
    assert calls(doors) == ["embed_text query"]
    assert (doors.embeddings.hits, doors.embeddings.misses) == (1, 1)
    able = replace(doors, bundle=msgspec.structs.replace(doors.bundle, capabilities=FULL))
    await run(able)
    assert calls(doors) == ["embed_text query", "embed_clip_text"]
    await run(able, replace(WORDS, text="other words"))
    assert calls(doors)[2:] == ["embed_query"]


async def test_the_same_words_at_the_same_time_are_embedded_once(doors: Doors) -> None:
    slow = with_triton(doors, delay_s=0.2)
    found = await asyncio.gather(*(run(slow) for _ in range(8)))
    assert calls(slow) == ["embed_text query"]
    assert slow.embeddings.in_flight.joined == 7
    assert all(one.candidates == found[0].candidates for one in found)


async def test_who_has_no_time_leaves_the_others_their_embedding(doors: Doors) -> None:
    slow = with_triton(doors, delay_s=0.6)
    hurried, patient = await asyncio.gather(run(slow, timeout_s=0.3), run(slow))
    assert hurried.degraded == ("speech: late",)
    assert patient.degraded == ()
    assert patient.candidates["speech"]


async def test_an_image_is_found_by_its_looks(doors: Doors) -> None:
    found = await run(doors, Query("", picture("bread", 1), b"", 1.0))
    best = found.candidates["visual"][0]
    assert best.segment_id == "bread-000005000"
    assert best.raw == pytest.approx(1, abs=1e-4)


async def test_a_sound_is_decoded_and_searched(doors: Doors) -> None:
    found = await run(doors, Query("", b"", wav_bytes(), 5.0), timeout_s=20)
    assert found.candidates == {"sound": ()}


async def test_words_find_sounds_by_one_embedding(doors: Doors, bundle: Bundle) -> None:
    dims = msgspec.structs.replace(bundle.dims, audio=bundle.dims.vision)
    shared = msgspec.structs.replace(bundle, version=1_000_000, capabilities=HEARS, dims=dims)
    row = index_row("whistle", sound=meaning("a rising whistle", dims.vision))
    able = with_triton(replace(doors, bundle=shared))
    await able.milvus.ensure_collections(shared, timeout_s=10)
    await able.milvus.write(shared, [row], timeout_s=10)
    found = await run(able, replace(WORDS, text="a rising whistle"))
    best = found.candidates["sound"][0]
    assert (best.segment_id, best.raw) == ("whistle-000000000", pytest.approx(1, abs=1e-4))
    assert calls(able) == ["embed_query"]  # both vectors in one call


async def test_words_find_sounds_by_an_encoder_of_their_own_where_there_is_one(
    doors: Doors,
) -> None:
    heard = Capabilities(words_to_pixels=True, words_to_sounds=True, fusion_trained=False)
    plan = plan_legs(WORDS, heard, sound_text=True)
    assert (plan["sound"], plan["visual"]) == (Aim(("sound_text",)), CLIP)
    bundle = msgspec.structs.replace(doors.bundle, capabilities=heard)
    able = with_triton(replace(doors, bundle=bundle))
    query = replace(WORDS, text="the sound of a kitten")
    found = await run_legs(plan, query, able, "", k=10, timeout_s=5)
    assert found.degraded == ()
    assert sorted(calls(able)) == ["embed_query", "embed_sound_text"]
    await run_legs(plan, query, able, "", k=10, timeout_s=5)
    assert len(calls(able)) == 2  # both are remembered


async def test_a_bundle_whose_sounds_have_another_size_is_refused(doors: Doors) -> None:
    dims = msgspec.structs.replace(doors.bundle.dims, audio=doors.bundle.dims.vision + 1)
    broken = msgspec.structs.replace(doors.bundle, capabilities=HEARS, dims=dims)
    with pytest.raises(ConfigurationError, match="export it again"):
        await run(replace(doors, bundle=broken))


async def test_a_sound_that_is_none_is_refused(doors: Doors) -> None:
    with pytest.raises(MediaRefused):
        await run(doors, Query("words", b"", b"no sound at all", 5.0), timeout_s=20)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("triton", "no"), "speech: triton unavailable"),
        (DeadlineExceeded("triton", "no"), "speech: late"),
        (Overloaded("full"), "speech: overloaded"),
    ],
)
async def test_without_triton_keywords_still_answer(
    doors: Doors, error: PixserveError, reason: str
) -> None:
    found = await run(with_triton(doors, error=error), replace(WORDS, text="dough"))
    assert found.degraded == (reason,)
    assert [c.segment_id for c in found.candidates["keyword"]] == ["bread-000000000"]


async def test_a_late_embedding_costs_its_leg_and_no_more_than_the_deadline(doors: Doors) -> None:
    start = time.perf_counter()
    found = await run(with_triton(doors, delay_s=60), timeout_s=0.3)
    assert found.degraded == ("speech: late",)
    assert "keyword" in found.candidates
    assert 0.25 < found.embed_s <= time.perf_counter() - start < 2


async def test_keywords_do_not_wait_for_the_embedding(doors: Doors) -> None:
    slow = with_triton(doors, delay_s=60)
    task = asyncio.create_task(run(slow, timeout_s=60))
    found = await doors.milvus.search_keyword(
        doors.bundle, "dough", k=1, expression="", timeout_s=5
    )
    assert found
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_where_no_leg_answers_the_part_at_fault_is_named(doors: Doors) -> None:
    nowhere = replace(doors, milvus=Milvus(f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(Unavailable) as caught:
        await run(nowhere)
    assert (caught.value.part, caught.value.status) == ("milvus", 503)
    await nowhere.milvus.close()


async def test_where_all_legs_are_late_the_deadline_is_named(doors: Doors) -> None:
    with pytest.raises(DeadlineExceeded, match="the deadline of 7 ms: give a longer deadline_ms"):
        await run(doors, replace(WORDS, deadline_s=0.007), timeout_s=0)


async def test_an_empty_index_is_an_answer_of_all_legs(
    bundle: Bundle, milvus_uri: str, tmp_path: Path
) -> None:
    async with opened_doors(bundle, milvus_uri, tmp_path) as empty:
        found = await run(empty)
    assert found.degraded == ()
    assert found.candidates == {"keyword": (), "speech": ()}


async def test_an_index_that_is_not_made_yet_is_not_called_milvus_unavailable(
    doors: Doors,
) -> None:
    missing = msgspec.structs.replace(doors.bundle, version=2_000_000)
    with pytest.raises(Unavailable, match="the index is not there yet"):
        await run(replace(doors, bundle=missing))


BROKEN = {
    "NaN": np.full(32, np.nan, np.float32),
    "infinity": np.full(32, np.inf, np.float32),
    "zero": np.zeros(32, np.float32),
    "1e20": np.full(32, 1e20, np.float32),
    "wrong dimension": np.eye(1, 33, dtype=np.float32)[0],
}


@pytest.mark.parametrize("vector", BROKEN.values(), ids=BROKEN)
async def test_a_vector_that_no_model_should_make_costs_its_leg_and_is_not_remembered(
    doors: Doors, vector: FloatArray
) -> None:
    class Broken(FakeTriton):
        async def embed_text(self, *_: object, **__: object) -> FloatArray:
            return vector[None]

    broken = replace(doors, triton=cast(Triton, Broken(doors.bundle)))
    found = await run(broken, replace(WORDS, text="dough"))
    assert [c.segment_id for c in found.candidates["keyword"]] == ["bread-000000000"]
    (told,) = found.degraded
    assert told.startswith(f"speech: a model of {doors.bundle.id} made a vector")
    assert len(doors.embeddings) == 0


# ---- several inputs, and segments


async def test_words_and_an_image_are_searched_with_as_one(doors: Doors) -> None:
    able = replace(doors, bundle=msgspec.structs.replace(doors.bundle, capabilities=FULL))
    query = Query("now", picture("bread", 1), b"", 1.0)
    found = await run(able, query)
    weights = replace(query, input_weights=InputWeights(text=0))
    (alone, both) = (await run(able, weights), found)
    assert alone.candidates["visual"][0].raw == pytest.approx(1, abs=1e-4)
    assert both.candidates["visual"][0].segment_id == "bread-000005000"
    assert both.candidates["visual"][0].raw < 0.95


async def test_a_segment_is_searched_with_by_what_the_index_holds_of_it(doors: Doors) -> None:
    found = await run(doors, Query("", b"", b"", 1.0, like="bread-000005000"))
    assert found.degraded == ()
    assert set(found.candidates) == {"visual", "speech"}  # it has no sound
    for candidates in found.candidates.values():
        assert candidates[0].segment_id == "bread-000005000"
        assert candidates[0].raw == pytest.approx(1, abs=1e-4)
    assert calls(doors) == []


async def test_a_segment_that_no_leg_has_is_not_found(doors: Doors) -> None:
    with pytest.raises(NotFound, match="nothing-000000000"):
        await run(doors, Query("", b"", b"", 1.0, like="nothing-000000000"))


async def test_what_is_taken_away_is_found_no_more(doors: Doors) -> None:
    await add_video(doors, "mixed", ["bread", "bread guitar", "guitar"])
    asked = replace(WORDS, text="bread guitar")
    before = await run(doors, asked)
    after = await run(doors, replace(asked, away="guitar"))
    raw = [{c.segment_id: c.raw for c in f.candidates["speech"]} for f in (before, after)]
    assert raw[0]["mixed-000010000"] > 0.5
    assert raw[1]["mixed-000010000"] == pytest.approx(0, abs=0.1)
    assert raw[1]["mixed-000000000"] > raw[0]["mixed-000000000"]


async def test_taking_away_what_is_asked_for_is_refused(doors: Doors) -> None:
    with pytest.raises(InvalidRequest, match="nothing is left"):
        await run(doors, replace(WORDS, away=WORDS.text))


async def test_what_triton_refuses_ends_the_search(doors: Doors) -> None:
    refused = with_triton(doors, error=MediaRefused("not_media", "no image"))
    query = Query("dough", b"x", b"", 1.0)
    with pytest.raises(MediaRefused, match="no image"):
        await run(refused, query)


async def test_an_engine_without_bm25_costs_the_keyword_leg(doors: Doors) -> None:
    doors.milvus._engine = Engine("Milvus v2.3.5", vector_index="FLAT", bm25=False)
    found = await run(doors)
    assert found.degraded == ("keyword: Milvus v2.3.5 has no BM25",)
    assert found.candidates["speech"]


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [({"delay_s": 5.0}, 504), ({"error": Unavailable("triton", "gone")}, 503)],
    ids=["late", "away"],
)
async def test_what_passes_is_told_before_what_an_engine_cannot(
    doors: Doors, behaviour: dict[str, object], status: int
) -> None:
    doors.milvus._engine = Engine("Milvus v2.3.5", vector_index="FLAT", bm25=False)
    with pytest.raises(Unavailable) as caught:
        await run(with_triton(doors, **behaviour), timeout_s=0.2)
    assert (caught.value.part, caught.value.status) == ("triton", status)
