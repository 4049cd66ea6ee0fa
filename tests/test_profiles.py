"""The table of profiles, and the sources of weights."""

import re

import msgspec
import pytest

from ensembles.build import MINI
from ensembles.contracts import Dimensions, models
from export.checkpoints import Places, find_sources
from export.profile_rows import WEIGHTS
from export.profiles import PROFILES, SENTENCE_MODELS, find_profile
from gateway.errors import ConfigurationError, InvalidRequest
from gateway.index.rows import LEGS
from gateway.index.schema import collection_name


def test_the_mini_profile_has_the_sizes_that_the_checked_in_configs_have():
    assert PROFILES["mini"].dims == MINI


@pytest.mark.parametrize(
    ("name", "vision", "sentence", "audio"),
    [("base", 512, 384, 768), ("large", 768, 768, 768), ("huge", 1024, 1024, 1024)],
)
def test_each_profile_has_the_dimensions_of_its_checkpoints(name, vision, sentence, audio):
    dims = find_profile(name).dims
    assert (dims.vision, dims.sentence, dims.audio, dims.fused) == (vision, sentence, audio, vision)
    assert (dims.image_size_px, dims.clip_tokens) == (224, 77)


def test_the_sentence_model_is_one_word_of_the_profiles_name():
    profile = find_profile("base-e5-large")
    assert profile.name == "base-e5-large"
    assert profile.dims.sentence == 1024
    assert profile.dims.vision == PROFILES["base"].dims.vision
    assert (profile.sentence.query_prefix, profile.sentence.passage_prefix) == (
        "query: ",
        "passage: ",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gigantic", "'gigantic'.*mini.*huge"),
        ("base-fastest", "'fastest'.*siglip2; sound: clap; sentence: fast, balanced"),
        ("base-clap-siglip2", "'siglip2', or not in its place"),
        ("base-siglip2-", "'base-siglip2-' names no profile"),
        ("base-", "'base-' names no profile"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(name, message):
    with pytest.raises(InvalidRequest, match=message):
        find_profile(name)


def test_only_the_mini_claims_sounds_and_fusion_and_all_claim_pixels():
    able = {name: profile.capabilities for name, profile in PROFILES.items()}
    assert all(a.words_to_pixels for a in able.values())
    assert [name for name in able if able[name].words_to_sounds] == ["mini"]
    assert [name for name in able if able[name].fusion_trained] == ["mini"]


def test_the_mini_with_another_sentence_model_has_no_trained_fusion():
    other = find_profile("mini-balanced")
    assert not other.capabilities.fusion_trained
    assert set(other.own_weights) == {"clip", "audio"}
    assert set(PROFILES["mini"].own_weights) == {"clip", "audio", "fusion"}
    assert PROFILES["base"].own_weights == {}


def test_other_models_are_words_of_the_profiles_name_in_one_order():
    profile = find_profile("large-siglip2-clap-bge-large")
    dims = profile.dims
    assert profile.name == "large-siglip2-clap-bge-large"
    assert (dims.vision, dims.sentence, dims.audio, dims.fused) == (768, 1024, 512, 768)
    assert (dims.clip_tokens, dims.clip_padding, dims.fit) == (64, "fixed", "squash")
    assert dims.sound_text_tokens == 77
    assert set(profile.checkpoints) == {"clip", "sentence", "audio"}


@pytest.mark.parametrize(
    ("name", "pixels", "sounds", "fusion"),
    [
        ("base-clap", True, True, False),
        ("base-siglip2", True, False, False),
        ("mini-siglip2", True, False, False),  # its words have left the space of its sounds
        ("mini-clap", True, True, False),
        ("mini-balanced", True, True, False),
    ],
)
def test_a_profile_can_do_what_its_models_were_trained_for_together(name, pixels, sounds, fusion):
    able = find_profile(name).capabilities
    assert (able.words_to_pixels, able.words_to_sounds) == (pixels, sounds)
    assert able.fusion_trained is fusion


def test_a_profile_without_such_models_has_the_contract_that_it_had():
    dims = find_profile("base").dims
    assert (dims.sound_text_tokens, dims.clip_padding, dims.fit) == (0, "bucket", "crop")
    assert "sound_text" not in models(dims)
    old = b'{"vision":1,"sentence":1,"audio":1,"fused":1,"image_size_px":1,"clip_tokens":1,'
    read = msgspec.json.decode(old + b'"sentence_tokens":1}', type=Dimensions)
    assert read.fit == "crop"


def test_every_profiles_name_makes_names_of_collections_that_milvus_takes(bundle):
    for name in ("base-siglip2-clap-bge-large", "mini-quality", "large"):
        made = {
            collection_name(msgspec.structs.replace(bundle, profile=find_profile(name).name), leg)
            for leg in LEGS
        }
        assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", collection) for collection in made)


def test_missing_checkpoints_are_all_named_in_one_message_with_their_files():
    with pytest.raises(ConfigurationError) as refused:
        find_sources(find_profile("large"), Places(), random_weights=False)
    message = str(refused.value)
    for name, checkpoint in find_profile("large").checkpoints.items():
        assert f"--checkpoint {name}=FOLDER" in message
        assert f"--revision {name}=COMMIT" in message
        assert checkpoint.hub in message
    assert all(file in message for file in ("config.json", "tokenizer.json", *WEIGHTS))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_folder_may_hold_either_kind_of_weights(tmp_path, weights):
    for name in ("config.json", "tokenizer.json", weights):
        (tmp_path / name).touch()
    places = Places(folders=dict.fromkeys(("clip", "sentence", "audio"), tmp_path))
    sources = find_sources(find_profile("huge"), places, random_weights=False)
    assert set(sources.weights) == {"clip", "sentence", "audio"}


def test_a_folder_without_weights_is_refused_by_the_file_that_lacks(tmp_path):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).touch()
    places = Places(folders=dict.fromkeys(("clip", "sentence", "audio"), tmp_path))
    with pytest.raises(ConfigurationError, match=r"lacks model\.safetensors; expected.* or "):
        find_sources(find_profile("base"), places, random_weights=False)


def test_a_checkpoint_for_a_model_that_takes_none_is_refused(tmp_path):
    places = Places(folders={"fusion": tmp_path})
    with pytest.raises(InvalidRequest, match=r"'fusion'; it takes: sentence"):
        find_sources(find_profile("mini"), places, random_weights=False)


def test_random_weights_need_no_more_than_tokenizers_and_take_those_given(tmp_path):
    sources = find_sources(find_profile("large"), Places(), random_weights=True)
    assert (sources.weights, set(sources.tokenizers)) == ({}, {"sentence"})
    places = Places(folders={"clip": tmp_path})
    with pytest.raises(ConfigurationError, match=r"lacks tokenizer\.json"):
        find_sources(find_profile("large"), places, random_weights=True)
    (tmp_path / "tokenizer.json").touch()
    assert find_sources(find_profile("large"), places, True).tokenizers["clip"] == tmp_path


def test_every_sentence_model_that_asks_for_prefixes_has_them():
    prefixed = {name for name, row in SENTENCE_MODELS.items() if row.query_prefix}
    assert prefixed == {"bge-large", "e5-large"}
