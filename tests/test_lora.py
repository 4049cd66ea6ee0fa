"""LoRA for the CLIP towers: what is trained, that merging is exact, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer

from ensembles.build import MINI
from ensembles.bundle import Bundle, list_bundles
from ensembles.sameness import same_encoders
from export.build import Order, export_bundle
from export.modules import ClipText, ClipVision
from gateway.errors import ConfigurationError, InvalidRequest, MediaRefused, NotFound
from tests.media import image_bytes
from training.models import mini_clip
from training.tuning.candidates import export_run
from training.tuning.captioned import Captioned, load_pixels, read_captions
from training.tuning.fit import FitSettings
from training.tuning.lora import (
    add_adapters,
    bundle_ranks,
    merge_adapters,
    starting_clip,
    train_clip,
)
from training.tuning.pairs import write_lines

IMAGES = 24
SETTINGS = FitSettings(epochs=3, batch=8, learning_rate=5e-3, weight_decay=0.0, patience=3)

RANDOM = Order(precision="fp32", random_weights=True)  # what is tuned need not be trained


def silent(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    export_bundle("mini", folder, silent, RANDOM)
    return folder


@pytest.fixture(scope="module")
def bundle(models_dir: Path) -> Bundle:
    return list_bundles(models_dir, "mini")[0]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioned folder: flat images, each named by its red, green and blue."""
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for number in range(IMAGES):
        colour = [(number * step) % 256 for step in (83, 151, 211)]
        (folder / f"{number}.png").write_bytes(flat_png(colour))
        rows.append(Captioned(f"{number}.png", f"red {colour[0]} green {colour[1]} {colour[2]}"))
    write_lines(folder / "captions.jsonl", rows)
    return folder


def flat_png(colour: list[int]) -> bytes:
    import av

    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), colour, np.uint8), "rgb24")
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 64, "rgb24"
    encoder.time_base = 1
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


# ---- adapters


def embeddings(clip: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.randint(
        0, 255, (2, 3, MINI.image_size_px, MINI.image_size_px), dtype=torch.uint8,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    ids = torch.arange(2, 18).reshape(2, 8)
    with torch.no_grad():
        text = ClipText(clip)(ids, torch.ones_like(ids))  # type: ignore[arg-type]
        return text, ClipVision(clip)(pixels)  # type: ignore[arg-type]


def test_only_queries_and_values_of_both_towers_are_adapted_and_trained() -> None:
    clip = mini_clip(MINI, 1)
    add_adapters(clip, 1)
    adapted = [name for name, part in clip.named_modules() if isinstance(part, LoraLayer)]
    assert {name.rpartition(".")[2] for name in adapted} == {"q_proj", "v_proj"}
    assert {name.partition(".")[0] for name in adapted} == {"text_model", "vision_model"}
    trained = [name for name, weight in clip.named_parameters() if weight.requires_grad]
    assert len(trained) == 2 * len(adapted)
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    layer = next(part for part in clip.modules() if isinstance(part, LoraLayer))
    assert (layer.r["default"], layer.scaling["default"]) == (8, 32 / 8)


def test_new_adapters_change_nothing_and_merged_ones_are_exact() -> None:
    clip = mini_clip(MINI, 1)
    names = set(clip.state_dict())
    before = embeddings(clip)
    add_adapters(clip, 1)
    for one, other in zip(before, embeddings(clip), strict=True):
        assert torch.equal(one, other)
    generator = torch.Generator().manual_seed(2)
    for name, weight in clip.named_parameters():
        if ".lora_B." in name:
            weight.data = 0.02 * torch.randn(weight.shape, generator=generator)
    adapted = embeddings(clip)
    merge_adapters(clip)
    assert set(clip.state_dict()) == names
    for one, other, old in zip(adapted, embeddings(clip), before, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
        assert not torch.allclose(one, old, atol=1e-2)


# ---- captions


def test_an_image_may_have_several_captions(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(image_bytes("png"))
    rows = [
        Captioned("1.png", "a kite"),
        Captioned("1.png", "a bird"),
        Captioned("1.png", "a kite"),
    ]
    write_lines(tmp_path / "captions.jsonl", rows)
    found = read_captions(tmp_path)
    assert (found.files, found.captions) == (("1.png",), ("a kite", "a bird"))
    assert found.pairs == [(0, 0), (1, 0)]


def test_a_folder_without_captions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"captions\.jsonl cannot be read"):
        read_captions(tmp_path)
    (tmp_path / "captions.jsonl").write_text("\n")
    with pytest.raises(InvalidRequest, match="is empty"):
        read_captions(tmp_path)


def test_a_line_that_is_no_caption_is_named(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text('{"file": "1.png"}')
    with pytest.raises(InvalidRequest, match="line 1 is no caption"):
        read_captions(tmp_path)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd"])
def test_a_file_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    write_lines(tmp_path / "captions.jsonl", [Captioned(name, "a secret")])
    with pytest.raises(InvalidRequest, match="outside its folder"):
        read_captions(tmp_path)


def test_images_that_are_not_there_are_listed(tmp_path: Path) -> None:
    write_lines(tmp_path / "captions.jsonl", [Captioned(f"{n}.png", "a kite") for n in range(12)])
    with pytest.raises(NotFound, match=r"12 of 12 images: 0\.png, .*9\.png and 2 more"):
        read_captions(tmp_path)


def test_captions_of_one_image_are_refused(
    tmp_path: Path, models_dir: Path, bundle: Bundle
) -> None:
    (tmp_path / "1.png").write_bytes(image_bytes("png"))
    rows = [Captioned("1.png", f"kite {number}") for number in range(20)]
    write_lines(tmp_path / "captions.jsonl", rows)
    with pytest.raises(InvalidRequest, match=r"find the same, '1\.png'"):
        train_clip(tmp_path, bundle, models_dir, tmp_path / "run", SETTINGS, silent)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(MediaRefused, match=r"1\.png: .*neither JPEG"):
        load_pixels(tmp_path, ("1.png",), 32)


def test_other_weights_than_those_that_are_served_are_refused(
    models_dir: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.tuning.lora.build_clip", lambda *_: mini_clip(MINI, 99))
    with pytest.raises(ConfigurationError, match="--checkpoint FOLDER"):
        starting_clip(bundle, models_dir / "mini" / "bundles" / "1", None)


# ---- a run


def test_a_run_is_exported_and_served_as_it_was_trained(
    tmp_path: Path, images: Path, models_dir: Path, bundle: Bundle
) -> None:
    folder = tmp_path / "run"
    run = train_clip(images, bundle, models_dir, folder, SETTINGS, silent)
    losses = [epoch.loss for epoch in run.fitted.epochs]
    assert losses[-1] < losses[0]
    new = export_run(run, folder, models_dir, silent)
    assert new.capabilities.words_to_pixels
    assert not same_encoders(bundle, new, models_dir)
    bundles = models_dir / "mini" / "bundles"
    shared = "wav2vec2/model.onnx"
    assert (bundles / "1" / shared).samefile(bundles / str(new.version) / shared)
    served = bundle_ranks(new, models_dir, images, folder / "pairs.jsonl", SETTINGS.seed)
    assert np.mean([1 / rank for rank in served]) == pytest.approx(run.measures["trained"].mrr.mean)


def test_an_interrupted_run_goes_on_to_the_same_weights(
    tmp_path: Path, images: Path, models_dir: Path, bundle: Bundle
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    whole = train_clip(images, bundle, models_dir, tmp_path / "whole", SETTINGS, silent)
    with pytest.raises(KeyboardInterrupt):
        train_clip(images, bundle, models_dir, tmp_path / "broken", SETTINGS, interrupt)
    resumed = train_clip(images, bundle, models_dir, tmp_path / "broken", SETTINGS, silent)
    assert resumed == whole
    weights = [(tmp_path / name / "clip.safetensors").read_bytes() for name in ("whole", "broken")]
    assert weights[0] == weights[1]
