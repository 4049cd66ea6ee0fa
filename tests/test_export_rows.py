"""SigLIP 2 and CLAP exported, small: their bundle, its files, and what the checkpoints must be."""

from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort
import pytest
import torch
from tokenizers import Tokenizer
from transformers import ClapConfig, ClapModel, SiglipConfig, SiglipModel

from ensembles.bundle import bundle_folder, list_bundles, repository_path
from ensembles.contracts import models
from ensembles.tokens import BucketTokenizer, text_encoders
from export import profiles
from export.build import Order, export_bundle, read_reports
from export.checkpoints import STAND_IN, Places, find_checkpoint
from export.parity import inexact
from export.profiles import find_profile
from export.tokenizers import CLIP_WORDS, write_tokenizers
from export.weights import build_clap, build_siglip
from gateway.errors import ConfigurationError
from tests.small_rows import HTSAT, SIGLIP, SMALL_CLAP, SMALL_SIGLIP
from training.tuning.tokens import byte_tokenizer

NAME = "mini-siglip2-clap"
ROLES = ["query", "query"]
SENTENCE = find_checkpoint("sentence", STAND_IN)  # the folder of its tokenizer


@pytest.fixture(scope="module")
def _small_rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(profiles.VISION_MODELS, "siglip2", SMALL_SIGLIP)
        patch.setitem(profiles.SOUND_MODELS, "clap", SMALL_CLAP)
        yield


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory, _small_rows) -> Path:
    folder = tmp_path_factory.mktemp("models")
    export_bundle(NAME, folder, lambda *_: None, Order(random_weights=True, precision="auto"))
    return folder


@pytest.fixture(scope="module")
def files(models_dir) -> Path:
    return bundle_folder(models_dir, NAME, 1)


def run(files: Path, model: str, feed: dict[str, np.ndarray]) -> np.ndarray:
    path = files / model / "model.onnx"
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    output: np.ndarray = session.run(None, feed)[0]
    return output


def test_the_bundle_says_what_it_is(models_dir):
    (bundle,) = list_bundles(models_dir, NAME)
    assert (bundle.dims.clip_padding, bundle.dims.fit) == ("fixed", "squash")
    assert bundle.dims.sound_text_tokens == 77
    assert bundle.capabilities.words_to_pixels
    assert bundle.capabilities.words_to_sounds
    assert not bundle.capabilities.fusion_trained
    assert bundle.sources["audio"] == "CLAP: random weights, seed 1"
    assert bundle.sources["audio tokenizer"].endswith("a stand-in")


def test_every_encoder_is_exact_and_the_repository_serves_it(models_dir):
    (bundle,) = list_bundles(models_dir, NAME)
    reports = {report.model: report for report in read_reports(models_dir, bundle)}
    assert {"clip_text", "clip_vision", "wav2vec2", "sound_text"} <= set(reports)
    for report in reports.values():
        assert inexact(report.fp32, report.padding) == ""
    assert reports["clip_text"].padding is None  # nothing may be cut off it
    served = repository_path(models_dir, NAME)
    assert set(models(bundle.dims)) <= {path.name for path in served.iterdir()}
    assert (served / "embed_sound_text_v1").is_dir()
    config = (served / "decode_video" / "configs" / "cpu.pbtxt").read_text()
    assert 'key: "fit"' in config
    assert '"squash"' in config


def test_texts_for_siglip_always_fill_its_length_in_lower_case(files):
    tokenizer = BucketTokenizer(files / "tokenize", "clip")
    feed = tokenizer.encode(["A Red Fox", "a red fox"], ROLES)
    assert feed["CLIP_IDS"].shape == (2, 64)
    assert np.array_equal(feed["CLIP_IDS"][0], feed["CLIP_IDS"][1])
    vectors = run(files, "clip_text", feed)
    assert vectors.shape == (2, SMALL_SIGLIP.width)
    elsewhere = feed | {"CLIP_IDS": np.where(feed["CLIP_MASK"], feed["CLIP_IDS"], 77)}
    assert np.allclose(vectors, run(files, "clip_text", elsewhere), atol=1e-6)


def test_texts_for_sounds_are_in_the_space_of_the_sounds(files):
    assert set(text_encoders(files / "tokenize")) == {"sentence", "clip", "sound_text"}
    tokenizer = BucketTokenizer(files / "tokenize", "sound_text")
    feed = tokenizer.encode(["a dog barks", "rain"], ROLES)
    assert feed["SOUND_TEXT_IDS"].shape == (2, 8)
    texts = run(files, "sound_text", feed)
    padded = {name: np.pad(ids, ((0, 0), (0, 24))) for name, ids in feed.items()}
    assert np.allclose(texts, run(files, "sound_text", padded), atol=1e-5)
    sound = np.random.default_rng(1).normal(size=(3, 9_000)).astype(np.float32)
    sounds = run(files, "wav2vec2", {"AUDIO": sound})
    assert texts.shape[1] == sounds.shape[1] == SMALL_CLAP.width
    assert np.linalg.norm(sounds, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """What a user downloads, small and untrained."""
    root = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(5)
    SiglipModel(SiglipConfig(**_settings(SIGLIP))).save_pretrained(root / "clip")
    ClapModel(ClapConfig(**_settings(HTSAT))).save_pretrained(root / "audio")
    for name in ("clip", "audio"):
        byte_tokenizer().save(str(root / name / "tokenizer.json"))
    return {name: root / name for name in ("clip", "audio")}


def _settings(architecture: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in architecture.items() if key != "model_type"}


@pytest.mark.usefixtures("_small_rows")
def test_local_checkpoints_become_what_transformers_returns(folders, tmp_path):
    order = Order(precision="fp32", places=Places(folders=folders))
    bundle = export_bundle(NAME, tmp_path, lambda *_: None, order)
    assert not bundle.random_weights
    assert bundle.sources["audio"].startswith("laion/clap-htsat-unfused sha256:")
    assert bundle.sources["audio tokenizer"].startswith("sha256:")
    files = bundle_folder(tmp_path, NAME, 1)
    _assert_siglip_agrees(folders["clip"], files)
    _assert_clap_agrees(folders["audio"], files)


def _assert_siglip_agrees(folder: Path, files: Path) -> None:
    """With what its own processor asks for: lower case, 64 tokens, no mask."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=64, pad_id=0)
    siglip = SiglipModel.from_pretrained(folder).eval()
    with torch.no_grad():
        ids = torch.tensor([tokenizer.encode("a red fox").ids])
        expected = siglip.get_text_features(input_ids=ids).pooler_output[0].numpy()
    feed = BucketTokenizer(files / "tokenize", "clip").encode(["A Red Fox"], ["query"])
    (actual,) = run(files, "clip_text", feed)
    assert actual @ expected / np.linalg.norm(expected) >= 0.9999


def _assert_clap_agrees(folder: Path, files: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    clap = ClapModel.from_pretrained(folder).eval()
    with torch.no_grad():
        ids = torch.tensor([tokenizer.encode("rain").ids])
        expected = clap.get_text_features(input_ids=ids).pooler_output[0].numpy()
    feed = BucketTokenizer(files / "tokenize", "sound_text").encode(["rain"], ["query"])
    (actual,) = run(files, "sound_text", feed)
    assert actual @ expected >= 0.9999


@pytest.mark.usefixtures("_small_rows")
def test_a_fused_clap_is_refused(tmp_path):
    fused = _settings(HTSAT) | {
        "audio_config": HTSAT["audio_config"] | {"enable_fusion": True, "fusion_type": "aff_2d"}
    }
    ClapModel(ClapConfig(**fused)).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match=r"enable_fusion True, the profile expects False"):
        build_clap(profiles.find_profile(NAME), tmp_path)


def test_a_siglip_of_another_size_is_refused_with_both_sides_named(folders):
    wider = msgspec.structs.replace(SMALL_SIGLIP, width=96)
    profile = msgspec.structs.replace(profiles.find_profile("base"), clip=wider)
    with pytest.raises(ConfigurationError, match=r"projection_size 64, the profile expects 96"):
        build_siglip(profile, folders["clip"])


def test_a_clip_without_a_tokenizer_reads_words_as_sentences_are_cut(tmp_path):
    write_tokenizers(find_profile("large"), {"sentence": SENTENCE}, tmp_path / "tokenize")
    clip = Tokenizer.from_file(str(tmp_path / "tokenize" / "clip.json"))
    clip.no_padding()
    read = clip.encode("how bread is baked")
    assert read.tokens[1:-1] == ["how", "bread", "is", "baked"]
    assert read.ids[-1] == max(read.ids) < CLIP_WORDS


def test_a_clip_that_knows_few_words_reads_bytes(tmp_path):
    few = msgspec.structs.replace(find_profile("base"), clip=SMALL_SIGLIP)
    write_tokenizers(few, {"sentence": SENTENCE}, tmp_path / "tokenize")
    clip = Tokenizer.from_file(str(tmp_path / "tokenize" / "clip.json"))
    assert len(clip.encode("bread").ids) == 2 + len("bread")
