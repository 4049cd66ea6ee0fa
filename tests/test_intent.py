"""What a query's words ask for: read off an embedding, and what that makes of the weights."""

from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.bundle import INTENTS, Bundle, Intent, IntentModel, read_bundle
from gateway.errors import ConfigurationError
from gateway.index.rows import LEGS
from gateway.schemas import LegName, LegWeights, Mode, SearchRequest
from gateway.search.fuse import leg_weights
from gateway.search.intent import UNSURE, answerable, doubt, intents_of, read_intents
from gateway.search.query import read_query
from gateway.settings import Settings

WIDTH = 4
SEEN = np.eye(WIDTH, dtype=np.float32)[0]
legs = st.sets(st.sampled_from(LEGS), min_size=1)


def model_of(logits: np.ndarray, biases: tuple[float, ...] = (0.0,) * len(INTENTS)) -> IntentModel:
    return IntentModel(INTENTS, logits.astype(np.float32).tobytes(), biases)


def sure_of(intent: Intent) -> IntentModel:
    logits = np.zeros((WIDTH, len(INTENTS)))
    logits[0, INTENTS.index(intent)] = 100
    return model_of(logits)


@given(st.lists(st.floats(-1e4, 1e4), min_size=WIDTH * 5, max_size=WIDTH * 5))
def test_readings_are_probabilities_and_never_sure(values: list[float]) -> None:
    read = read_intents(model_of(np.array(values).reshape(WIDTH, 5)), SEEN)
    assert list(read) == list(INTENTS)
    assert sum(read.values()) == pytest.approx(1)
    assert min(read.values()) >= 0
    assert read["several"] >= UNSURE
    assert UNSURE <= doubt(read) <= 1


def test_what_is_read_is_what_the_embedding_points_to() -> None:
    read = read_intents(sure_of("motion"), SEEN)
    assert read["motion"] == pytest.approx(1 - UNSURE)
    even = read_intents(sure_of("motion"), np.eye(WIDTH, dtype=np.float32)[1])
    assert even["motion"] == even["sound"] == pytest.approx((1 - UNSURE) / 5)


def test_biases_count() -> None:
    read = read_intents(model_of(np.zeros((WIDTH, 5)), (0, 0, 9, 0, 0)), SEEN)
    assert max(read, key=lambda name: read[name]) == "sound"


def test_a_model_survives_its_bundles_file() -> None:
    model = sure_of("speech")
    assert msgspec.json.decode(msgspec.json.encode(model), type=IntentModel) == model


@pytest.mark.parametrize(
    "asked",
    [
        SearchRequest(query="x", mode="balanced"),
        SearchRequest(query="x", weights=LegWeights(speech=1)),
        SearchRequest(query="x", image=b"a picture"),
        SearchRequest(query="x", like="v-000000000"),
        SearchRequest(image=b"a picture"),
    ],
)
def test_nothing_is_read_where_more_than_words_says_what_counts(asked: SearchRequest) -> None:
    query = read_query(asked, Settings())
    assert intents_of(asked, query, sure_of("look"), SEEN) == {}


def test_nothing_is_read_without_an_embedding_or_a_model() -> None:
    asked = SearchRequest(query="x")
    query = read_query(asked, Settings())
    assert intents_of(asked, query, None, SEEN) == {}
    assert intents_of(asked, query, sure_of("look"), None) == {}
    assert intents_of(asked, query, sure_of("look"), SEEN)["look"] > 0.9


@given(legs, st.sampled_from(INTENTS), st.sampled_from([None, "music", "tutorial", "vlog"]))
def test_weights_by_intent_sum_to_one_and_leave_no_leg_without(
    running: set[LegName], intent: Intent, category: str | None
) -> None:
    read = read_intents(sure_of(intent), SEEN)
    weights = leg_weights(running, "auto", category=category, intents=read)
    assert set(weights) == running
    assert sum(weights.values()) == pytest.approx(1, abs=1e-12)
    assert min(weights.values()) > 0


@pytest.mark.parametrize(
    ("intent", "leg"),
    [("look", "visual"), ("motion", "fused"), ("sound", "sound"), ("speech", "speech")],
)
def test_an_intent_gives_most_to_the_leg_that_can_answer(intent: Intent, leg: LegName) -> None:
    weights = leg_weights(LEGS, "auto", intents=read_intents(sure_of(intent), SEEN))
    assert max(weights, key=lambda name: weights[name]) == leg
    assert weights[leg] > 0.6


@given(legs, st.sampled_from(["music", "tutorial", "vlog", None]))
def test_several_things_weigh_as_the_balanced_mode_does(
    running: set[LegName], category: str | None
) -> None:
    several = leg_weights(running, "auto", category=category, intents={"several": 1.0})
    assert several == pytest.approx(leg_weights(running, "balanced", category=category))


@pytest.mark.parametrize(("mode", "category"), list(product(["auto", "balanced"], [None, "music"])))
def test_without_a_reading_auto_is_balanced(mode: Mode, category: str | None) -> None:
    assert leg_weights(LEGS, mode, category=category) == leg_weights(
        LEGS, "balanced", category=category
    )


def test_a_category_multiplies_what_the_intents_give() -> None:
    read = {"look": 0.5, "sound": 0.5}
    plain = leg_weights(LEGS, "auto", intents=read)
    music = leg_weights(LEGS, "auto", category="music", intents=read)
    assert music["sound"] / music["visual"] == pytest.approx(2 * plain["sound"] / plain["visual"])
    even = leg_weights(LEGS, "auto", category="vlog", intents=read)
    assert even["sound"] == pytest.approx(even["visual"] + even["fused"])


def test_an_intent_that_no_running_leg_answers_is_in_doubt() -> None:
    read = read_intents(sure_of("look"), SEEN)
    meant = answerable(read, {"speech", "keyword"})
    assert meant["look"] == 0
    assert sum(meant.values()) == pytest.approx(1)
    assert doubt(meant) == 1
    assert leg_weights({"speech", "keyword"}, "auto", intents=meant) == pytest.approx(
        leg_weights({"speech", "keyword"}, "balanced")
    )
    assert answerable(read, {"fused", "speech", "sound"}) == read
    assert answerable({}, {"speech"}) == {}


@pytest.mark.parametrize(
    "broken",
    [
        IntentModel(INTENTS, b"\0" * 4, (0.0,) * 5),
        IntentModel(INTENTS, b"\0" * 4 * 5 * 384, (0.0,) * 4),
        IntentModel(INTENTS[:4], b"\0" * 4 * 4 * 384, (0.0,) * 4),
    ],
)
def test_a_bundle_whose_reader_does_not_fit_is_refused(
    bundle: Bundle, tmp_path: Path, broken: IntentModel
) -> None:
    path = tmp_path / "bundle.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(bundle, intents=broken)))
    with pytest.raises(ConfigurationError, match="export it again"):
        read_bundle(path)
