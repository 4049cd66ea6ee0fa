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

from ensembles.build import MINI
from ensembles.bundle import bundle_folder, list_bundles, repository_path
from ensembles.contracts import models
from export.build import ensure_exported, export_bundle
from export.checkpoints import find_checkpoint
from export.modules import Sentence
from export.profiles import PROFILES, find_profile
from export.repository import assemble_repository
from gateway.errors import ConfigurationError, InvalidRequest
from training.models import fusion


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
    bundle = export_bundle("mini", tmp_path / "models", silent, force=True)
    assert bundle.id == "mini-2"
    repository = repository_path(tmp_path / "models", "mini")
    assert {path.name for path in (repository / "clip_text").iterdir()} == {"1", "2", "configs"}
    assert {"embed_text_v1", "embed_text_v2"} <= {path.name for path in repository.iterdir()}


def test_the_sentence_encoder_is_exact_and_padding_changes_nothing(models_dir):
    folder = find_checkpoint("sentence", PROFILES["mini"].sentence, None)
    module = Sentence(folder)
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 20000, (3, 12))
    mask = np.ones_like(ids)
    with torch.no_grad():
        expected = module(torch.tensor(ids), torch.tensor(mask)).numpy()
    encoder = session(models_dir, "sentence")
    padded = {
        "SENTENCE_IDS": np.pad(ids, ((0, 0), (0, 20))),
        "SENTENCE_MASK": np.pad(mask, ((0, 0), (0, 20))),
    }
    for feed in ({"SENTENCE_IDS": ids, "SENTENCE_MASK": mask}, padded):
        actual = encoder.run(None, feed)[0]
        assert (actual * expected).sum(axis=1).min() >= 0.9999


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


def test_an_untrained_fusion_is_exactly_the_mean_frame(models_dir):
    inputs = fusion_inputs(np.random.default_rng(2))
    inputs[1][:, 3:] = 0  # the last two frames are absent
    mean = inputs[0][:, :3].mean(dim=1)
    expected = torch.nn.functional.normalize(mean, dim=-1).numpy()
    feed = {
        tensor.name: value.numpy()
        for tensor, value in zip(models(MINI)["fusion"].inputs, inputs, strict=True)
    }
    assert session(models_dir, "fusion").run(None, feed)[0] == pytest.approx(expected, abs=1e-6)


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


def test_an_unknown_profile_is_refused_with_the_known_ones():
    with pytest.raises(InvalidRequest, match=r"'gigantic'.*mini"):
        find_profile("gigantic")


def test_a_checkpoint_folder_that_lacks_files_is_refused_by_their_names(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"lacks model\.safetensors, tokenizer\.json"):
        export_bundle("mini", tmp_path / "models", silent, folders={"sentence": tmp_path})
    assert list_bundles(tmp_path / "models", "mini") == ()


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
    assert bundle.sources["sentence"].startswith("sentence-transformers/all-MiniLM-L6-v2 sha256:")
    assert set(bundle.calibration) == {"visual", "sound", "fused", "speech", "keyword"}
    assert msgspec.json.decode(msgspec.json.encode(bundle), type=type(bundle)) == bundle
