"""Texts to token ids: prefixes, truncation, buckets."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from ensembles.contracts import TextEncoder
from ensembles.tokens import SETTINGS, BucketTokenizer, text_encoders

WORDS = {"[UNK]": 0, "query": 1, "passage": 2, "bread": 3, "is": 4, "baked": 5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tokenizers whose files ask for a padding and a truncation of their own."""
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(2)
    for encoder in ("clip", "sentence"):
        tokenizer.save(str(tmp_path / f"{encoder}.json"))
    settings = {
        "query_prefix": "query ",
        "passage_prefix": "passage ",
        "clip_tokens": 20,
        "sentence_tokens": 64,
    }
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    return tmp_path


def test_texts_of_a_batch_are_padded_to_the_bucket_of_the_longest(folder: Path) -> None:
    feed = BucketTokenizer(folder, "clip").encode(["bread is baked", "bread " * 9], ["query"] * 2)
    assert feed["CLIP_IDS"].shape == feed["CLIP_MASK"].shape == (2, 16)
    assert feed["CLIP_IDS"].dtype == feed["CLIP_MASK"].dtype == np.int64
    assert feed["CLIP_MASK"].sum(axis=1).tolist() == [3, 9]
    assert feed["CLIP_IDS"][0].tolist() == [3, 4, 5] + [0] * 13


def test_the_sentence_encoder_alone_is_told_the_role(folder: Path) -> None:
    texts, roles = ["bread", "bread"], ["query", "passage"]
    sentence = BucketTokenizer(folder, "sentence").encode(texts, roles)["SENTENCE_IDS"]
    clip = BucketTokenizer(folder, "clip").encode(texts, roles)["CLIP_IDS"]
    assert sentence[:, :3].tolist() == [[1, 3, 0], [2, 3, 0]]
    assert clip[:, :2].tolist() == [[3, 0], [3, 0]]


@pytest.mark.parametrize(("encoder", "limit"), [("clip", 20), ("sentence", 64)])
def test_a_long_text_is_cut_at_its_encoders_limit(
    folder: Path, encoder: TextEncoder, limit: int
) -> None:
    feed = BucketTokenizer(folder, encoder).encode(["bread " * 5_000], ["query"])
    assert feed[f"{encoder.upper()}_MASK"].tolist() == [[1] * limit]


def test_a_text_without_a_word_still_has_a_row(folder: Path) -> None:
    feed = BucketTokenizer(folder, "clip").encode([""], ["query"])
    assert feed["CLIP_MASK"].tolist() == [[0] * 8]


def test_texts_without_as_many_roles_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        BucketTokenizer(folder, "clip").encode(["bread", "is"], ["query"])


def test_an_encoder_that_reads_its_padding_always_gets_all_of_it(folder: Path) -> None:
    settings = json.loads((folder / SETTINGS).read_text()) | {"clip_padding": "fixed"}
    (folder / SETTINGS).write_text(json.dumps(settings))
    feed = BucketTokenizer(folder, "clip").encode(["bread"], ["query"])
    assert feed["CLIP_IDS"].tolist() == [[3] + [0] * 19]
    assert feed["CLIP_MASK"].sum() == 1


def test_a_bundle_has_the_text_encoders_whose_tokenizers_it_brings(folder: Path) -> None:
    assert set(text_encoders(folder)) == {"clip", "sentence"}
    (folder / "clip.json").rename(folder / "sound_text.json")
    assert set(text_encoders(folder)) == {"sound_text", "sentence"}
