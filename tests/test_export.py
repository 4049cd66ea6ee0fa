"""Exporting the mini profile: the real weights, real ONNX files, and what can go wrong."""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from deploy.demo.topics import read_queries
from ensembles.build import MINI
from ensembles.bundle import bundle_folder, list_bundles, read_bundle, repository_path
from ensembles.contracts import models
from export.build import Order, ensure_exported, export_bundle, read_reports
from export.checkpoints import Places, find_checkpoint
from export.parity import inexact, too_coarse
from export.precision import run_encoder
from export.profiles import PROFILES
from export.repository import assemble_repository
from export.samples import TextSample
from export.weights import build_sentence
from gateway.errors import ConfigurationError
from gateway.search.intent import read_intents
from training.models import fusion
from training.world.absent import absent_things


def silent(_what: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    export_bundle("mini", folder, silent)
    return folder


def session(models_dir: Path, model: str) -> ort.InferenceSession:
    path = bundle_folder(models_dir, "mini", 1) / model / "model.onnx"
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_the_repository_has_every_model_at_the_bundles_version(models_dir):
    repository = repository_path(models_dir, "mini")
    names = {path.name for path in repository.iterdir()}
    assert set(models(MINI)) <= names
    assert {"embed_query", "embed_query_v1"} <= names
    assert all((repository / name / "1").is_dir() for name in names)


def test_exporting_again_changes_nothing(models_dir):
    before = sorted(models_dir.rglob("*"))
    assert export_bundle("mini", models_dir, silent).version == 1
    assert sorted(models_dir.rglob("*")) == before


def test_a_forced_export_is_a_new_bundle_beside_the_old_one(models_dir, tmp_path):
    shutil.copytree(models_dir, tmp_path / "models", symlinks=True)
    bundle = export_bundle("mini", tmp_path / "models", silent, Order(force=True))
    assert bundle.id == "mini-2"
    repository = repository_path(tmp_path / "models", "mini")
    assert {path.name for path in (repository / "clip_text").iterdir()} == {"1", "2", "configs"}
    assert {"embed_text_v1", "embed_text_v2"} <= {path.name for path in repository.iterdir()}


def test_padding_changes_no_sentence(models_dir):
    ids = np.random.default_rng(0).integers(1000, 20000, (3, 12))
    mask = np.ones_like(ids)
    encoder = session(models_dir, "sentence")
    cut, padded = (
        encoder.run(
            None,
            {
                "SENTENCE_IDS": np.pad(ids, ((0, 0), (0, padding))),
                "SENTENCE_MASK": np.pad(mask, ((0, 0), (0, padding))),
            },
        )[0]
        for padding in (0, 20)
    )
    assert (cut * padded).sum(axis=1).min() >= 0.9999


def test_every_encoder_returns_unit_vectors_for_any_batch(models_dir):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (3, 3, MINI.image_size_px, MINI.image_size_px), dtype=np.uint8)
    for model, feed in (
        ("clip_vision", {"PIXELS": pixels}),
        ("wav2vec2", {"AUDIO": rng.normal(size=(2, 9_000)).astype(np.float32)}),
        ("wav2vec2", {"AUDIO": np.zeros((1, 32_000), np.float32)}),
    ):
        output = session(models_dir, model).run(None, feed)[0]
        assert np.linalg.norm(output, axis=1) == pytest.approx(1, abs=1e-5)


def fusion_inputs(rng: np.random.Generator) -> list[torch.Tensor]:
    tokens = [rng.normal(size=(2, 5, width)) for width in (MINI.vision, MINI.audio, MINI.sentence)]
    weights = [rng.uniform(0.1, 1, (2, 5)) for _ in tokens]
    pairs = zip(tokens, weights, strict=True)
    return [torch.tensor(a, dtype=torch.float32) for pair in pairs for a in pair]


def test_an_untrained_fusion_is_exactly_the_mean_frame(random_dir):
    inputs = fusion_inputs(np.random.default_rng(2))
    inputs[1][:, 3:] = 0  # the last two frames are absent
    mean = inputs[0][:, :3].mean(dim=1)
    expected = torch.nn.functional.normalize(mean, dim=-1).numpy()
    feed = {
        tensor.name: value.numpy()
        for tensor, value in zip(models(MINI)["fusion"].inputs, inputs, strict=True)
    }
    assert session(random_dir, "fusion").run(None, feed)[0] == pytest.approx(expected, abs=1e-6)


def test_doubling_every_share_of_pix_changes_no_vector():
    network = fusion(MINI, seed=5)
    torch.nn.init.constant_(network.gate, 0.7)  # opened, so that attention counts
    inputs = fusion_inputs(np.random.default_rng(3))
    doubled = [2 * value if index % 2 else value for index, value in enumerate(inputs)]
    with torch.no_grad():
        assert torch.allclose(network(*inputs), network(*doubled), atol=1e-6)
        inputs[1][:, 0] *= 4  # another share for one frame does change it
        assert not torch.allclose(network(*inputs), network(*doubled), atol=1e-3)


def test_a_repository_is_renewed_when_the_code_changes_and_kept_when_not(models_dir, monkeypatch):
    first = repository_path(models_dir, "mini").resolve()
    assert assemble_repository(models_dir, "mini").resolve() == first
    monkeypatch.setattr("export.repository.machine_cores", lambda: 64)
    second = assemble_repository(models_dir, "mini").resolve()
    assert second != first
    assert not first.exists()


def test_a_checkpoint_folder_that_lacks_files_is_refused_by_their_names(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    order = Order(places=Places(folders={"sentence": tmp_path}))
    with pytest.raises(ConfigurationError, match=r"lacks tokenizer\.json, model\.safetensors"):
        export_bundle("mini", tmp_path / "models", silent, order)
    assert list_bundles(tmp_path / "models", "mini") == ()


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A copy of the sentence encoder's checkpoint, to break."""
    source = find_checkpoint("sentence", PROFILES["mini"].sentence.checkpoint)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        shutil.copy(source / name, folder)
    return folder


def test_weights_with_nan_are_refused_by_their_name_and_nothing_is_left(tmp_path, checkpoint):
    weights = load_file(checkpoint / "model.safetensors")
    weights["encoder.layer.2.output.dense.weight"][1, 1] = float("nan")
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    order = Order(places=Places(folders={"sentence": checkpoint}))
    with pytest.raises(ConfigurationError, match=r"sentence.*layer\.2\.output.*1 numbers"):
        export_bundle("mini", tmp_path / "models", silent, order)
    assert list((tmp_path / "models").rglob("*.onnx")) == []


def test_a_checkpoint_of_another_size_is_refused_with_both_sides_named(checkpoint):
    profile = msgspec.structs.replace(
        PROFILES["mini"], sentence=msgspec.structs.replace(PROFILES["mini"].sentence, width=768)
    )
    with pytest.raises(ConfigurationError, match="hidden_size 384, the profile expects 768"):
        build_sentence(profile, checkpoint)


def test_a_checkpoint_that_cannot_be_read_is_refused(checkpoint):
    (checkpoint / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ConfigurationError, match="cannot be loaded as sentence-transformers"):
        build_sentence(PROFILES["mini"], checkpoint)


def test_serving_a_profile_that_was_not_exported_says_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError, match="pixserve export --profile mini"):
        assemble_repository(tmp_path, "mini")


def test_a_killed_export_leaves_no_bundle_and_is_cleaned_up_by_the_next(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; from export.build import export_bundle\n"
        "def progress(what, done, total):\n"
        "    if done == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "export_bundle('mini', Path(sys.argv[1]), progress)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=False, capture_output=True
    )
    assert killed.returncode == -9
    assert list_bundles(tmp_path, "mini") == ()
    assert list((tmp_path / "mini").glob(".export-*"))
    assert ensure_exported("mini", tmp_path, silent).version == 1
    assert not list((tmp_path / "mini").glob(".export-*"))


def test_a_bundle_is_described_by_what_went_into_it(models_dir):
    (bundle,) = list_bundles(models_dir, "mini")
    assert bundle.capabilities == PROFILES["mini"].capabilities
    assert not bundle.random_weights
    assert bundle.sources["sentence"].startswith("sentence-transformers/all-MiniLM-L6-v2 sha256:")
    assert bundle.sources["clip"].startswith("mini CLIP sha256:")
    assert bundle.sources["fusion"].startswith("fusion sha256:")
    legs = {"visual", "sound", "fused", "speech", "keyword"}
    by_words = {"visual_by_words", "sound_by_words", "fused_by_words"}
    assert set(bundle.calibration) == legs | by_words
    assert all(band.low < band.high for band in bundle.calibration.values())
    assert msgspec.json.decode(msgspec.json.encode(bundle), type=type(bundle)) == bundle


def test_every_encoder_has_its_parity_report(models_dir):
    (bundle,) = list_bundles(models_dir, "mini")
    reports = {report.model: report for report in read_reports(models_dir, bundle)}
    assert set(reports) == {n for n, m in models(MINI).items() if m.runtime == "encoder"}
    assert {name: report.precision for name, report in reports.items()} == bundle.precisions
    for report in reports.values():
        assert inexact(report.fp32, report.padding) == ""
        if report.precision == "int8":
            assert report.int8 is not None
            assert report.overlap is not None
            assert too_coarse(report.int8, report.overlap) == ""
    assert reports["clip_text"].padding is not None


@pytest.fixture(scope="module")
def random_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    export_bundle("mini", folder, silent, Order(precision="fp32", random_weights=True))
    return folder


def test_random_weights_are_marked_and_served_only_when_allowed(random_dir):
    (bundle,) = list_bundles(random_dir, "mini")
    assert bundle.random_weights
    assert bundle.sources["sentence"] == "all-MiniLM-L6-v2: random weights, seed 1"
    assert bundle.sources["clip"] == "mini CLIP: random weights, seed 1"
    assert bundle.sources["fusion"] == "fusion: random weights, seed 1"
    assert bundle.sources["clip tokenizer"].startswith("sha256:")
    with pytest.raises(ConfigurationError, match=r"mini-1: random weights.*allow-random-weights"):
        ensure_exported("mini", random_dir, silent)
    assert ensure_exported("mini", random_dir, silent, allow_random_weights=True) == bundle


def test_random_weights_have_the_architecture_and_none_of_the_knowledge(random_dir, models_dir):
    ids = np.random.default_rng(0).integers(1000, 20000, (3, 12))
    feed = {"SENTENCE_IDS": ids, "SENTENCE_MASK": np.ones_like(ids)}
    random, trained = (
        session(folder, "sentence").run(None, feed)[0] for folder in (random_dir, models_dir)
    )
    assert random.shape == trained.shape
    assert np.abs((random * trained).sum(axis=1)).max() < 0.5


def test_trained_bundles_are_served_beside_random_ones_without_them(
    random_dir, models_dir, tmp_path
):
    folder = tmp_path / "models"
    for version, source in ((1, models_dir), (2, random_dir)):
        files = bundle_folder(folder, "mini", version)
        shutil.copytree(bundle_folder(source, "mini", 1), files)
        bundle = msgspec.structs.replace(read_bundle(files / "bundle.json"), version=version)
        (files / "bundle.json").write_bytes(msgspec.json.encode(bundle))
    assert ensure_exported("mini", folder, silent).id == "mini-1"
    served = repository_path(folder, "mini") / "clip_text"
    assert {path.name for path in served.iterdir()} == {"1", "configs"}
    assert ensure_exported("mini", folder, silent, allow_random_weights=True).id == "mini-2"
    assert {path.name for path in served.iterdir()} == {"1", "2", "configs"}


def test_the_mini_profile_is_exact_unless_int8_is_asked_for(models_dir):
    (bundle,) = list_bundles(models_dir, "mini")
    assert set(bundle.precisions.values()) == {"fp32"}


def test_another_order_is_another_bundle(random_dir, tmp_path):
    shutil.copytree(random_dir, tmp_path / "models", symlinks=True)
    same = Order(precision="fp32", random_weights=True)
    assert export_bundle("mini", tmp_path / "models", silent, same).version == 1
    int8 = Order(precision="int8", random_weights=True)
    bundle = export_bundle("mini", tmp_path / "models", silent, int8)
    assert bundle.version == 2
    assert bundle.precisions["sentence"] == "int8"


@pytest.mark.parametrize(
    ("manner", "wording", "meant"),
    [("heard", "the sound of {}", "sound"), ("said", "someone talking about {}", "speech")],
)
def test_what_is_asked_for_is_read_off_words_about_unknown_things(
    models_dir, manner, wording, meant
):
    asked = [wording.format(thing) for thing in absent_things("reserve")[manner]]
    read = read_words(models_dir, asked)
    assert np.mean([max(one, key=one.get) == meant for one in read]) >= 0.8


def test_what_the_demos_questions_ask_for_is_mostly_speech_or_in_doubt(models_dir):
    read = read_words(models_dir, [query.text for query in read_queries().paraphrase])
    assert np.mean([one["speech"] + one["several"] for one in read]) > 0.5


def read_words(models_dir, asked):
    """Read intents as a search does, by the exported encoder."""
    bundle = list_bundles(models_dir, "mini")[0]
    folder = bundle_folder(models_dir, "mini", 1)
    tokenizer = Tokenizer.from_file(str(folder / "tokenize" / "sentence.json"))
    texts = TextSample(tokenizer, "SENTENCE", bundle.dims.sentence_tokens)
    sentences = run_encoder(folder / "sentence" / "model.onnx", texts.sentences(asked))
    return [read_intents(bundle.intents, sentence) for sentence in sentences]


def test_no_intents_are_read_by_a_sentence_encoder_that_was_not_trained(tmp_path):
    bundle = export_bundle("mini", tmp_path, silent, Order(random_weights=True))
    assert bundle.intents is None
