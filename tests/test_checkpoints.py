"""Checkpoints in local folders, of the published kinds at small depth, to a bundle."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from tokenizers import Tokenizer
from transformers import CLIPConfig, CLIPModel, Wav2Vec2Config, Wav2Vec2Model

from ensembles.bundle import bundle_folder
from export.architectures import CLIP_B32
from export.build import Order, export_bundle, read_reports
from export.checkpoints import Places, find_checkpoint
from export.profiles import PROFILES
from export.weights import build_clip, build_sound
from gateway.errors import ConfigurationError
from training.tuning.tokens import byte_tokenizer

BASE = PROFILES["base"]
SHALLOW = {"num_hidden_layers": 1}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """What a user downloads: CLIP ViT-B/32 and wav2vec2-base, here one layer deep and untrained."""
    root = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(11)
    text = CLIP_B32["text_config"] | SHALLOW | {"vocab_size": 300}
    config = CLIPConfig(
        projection_dim=512,
        text_config=text,
        vision_config=CLIP_B32["vision_config"] | SHALLOW,
    )
    CLIPModel(config).save_pretrained(root / "clip")
    byte_tokenizer().save(str(root / "clip" / "tokenizer.json"))
    Wav2Vec2Model(Wav2Vec2Config(**SHALLOW)).save_pretrained(root / "audio")
    return {"clip": root / "clip", "audio": root / "audio"}


def test_local_checkpoints_become_a_bundle_with_their_weights_and_tokenizers(folders, tmp_path):
    order = Order(precision="fp32", places=Places(folders=folders))
    bundle = export_bundle("base", tmp_path, lambda *_: None, order)
    assert not bundle.random_weights
    assert bundle.dims == BASE.dims
    assert bundle.sources["clip"].startswith("openai/clip-vit-base-patch32 sha256:")
    assert bundle.sources["audio"].startswith("facebook/wav2vec2-base sha256:")
    assert len(read_reports(tmp_path, bundle)) == 5
    files = bundle_folder(tmp_path, "base", 1)
    assert (files / "tokenize" / "clip.json").read_bytes() == (
        folders["clip"] / "tokenizer.json"
    ).read_bytes()
    assert_agrees_with_transformers(folders["clip"], files)
    again = export_bundle("base", tmp_path, lambda *_: None, order)
    assert again == bundle


def assert_agrees_with_transformers(folder: Path, files: Path) -> None:
    """The exported text tower returns what the checkpoint's own model returns."""
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("a red fox").ids
    clip = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        tower = clip.text_model(input_ids=torch.tensor([ids]))
        expected = clip.text_projection(tower.pooler_output)[0].numpy()
    session = ort.InferenceSession(
        files / "clip_text" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    padded = np.pad(np.array([ids]), ((0, 0), (0, 5)))  # with an id that stands for a byte
    mask = (np.arange(padded.shape[1]) < len(ids)).astype(np.int64)[None]
    (actual,) = session.run(None, {"CLIP_IDS": padded, "CLIP_MASK": mask})[0]
    assert actual @ expected / np.linalg.norm(expected) >= 0.9999


def test_a_clip_of_another_width_is_refused_with_both_sides_named(folders):
    with pytest.raises(ConfigurationError, match="projection_dim 512, the profile expects 768"):
        build_clip(PROFILES["large"], folders["clip"])


def test_a_sound_encoder_of_another_width_is_refused_with_both_sides_named(folders):
    with pytest.raises(ConfigurationError, match="hidden_size 768, the profile expects 1024"):
        build_sound(PROFILES["huge"], folders["audio"])


def test_weights_that_are_not_in_the_file_are_never_made_up(folders, tmp_path):
    """transformers would build a CLIP of random numbers from this folder."""
    shutil.copytree(folders["audio"], tmp_path, dirs_exist_ok=True)
    with pytest.raises(ConfigurationError, match=r"lacks \d+ weights of openai/clip"):
        build_clip(BASE, tmp_path)


def test_the_package_of_the_sentence_encoder_is_found_without_being_named():
    folder = find_checkpoint("sentence", BASE.sentence.checkpoint)
    assert (folder / "model.safetensors").is_file()
