"""The preprocessing of pixels and sound against that of the checkpoints: transformers' own."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from ensembles.build import MINI
from ensembles.contracts import AUDIO_RATE_HZ, models
from ensembles.pipelines import FrameFitter
from export.modules import (
    CLIP_MEAN,
    CLIP_STD,
    SIGLIP_MEAN,
    SIGLIP_STD,
    ClipVision,
    Normalise,
    Sound,
)
from export.onnx import export_onnx
from export.samples import sounds
from training.models import mini_clip

SIZES = [
    (96, 96),
    (128, 96),
    (97, 131),
    (360, 640),
    (640, 360),
    (720, 1280),
    (200, 801),
    (480, 640),
]
LEAST_COSINE = 0.999
MEAN_LEVELS = 1.0  # mean absolute difference of a pixel, of 255


def photograph(height: int, width: int, seed: int) -> np.ndarray:
    """Noise whose power falls with frequency as that of photographs does (1/f)."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    planes = [
        np.fft.irfft2(falloff * np.fft.rfft2(rng.normal(size=(height, width))), (height, width))
        for _ in range(3)
    ]
    scaled = [127 + 55 * plane / plane.std() for plane in planes]
    return np.clip(np.stack(scaled, axis=-1), 0, 255).astype(np.uint8)


def rendered(height: int, width: int, seed: int) -> np.ndarray:
    """Sharp edges: stripes, a disc and a flat box, as on slides and screens."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    image = np.where(((x + y) // 24 % 2)[..., None], rng.integers(0, 255, 3), 20).astype(np.uint8)
    image[(x - width / 2) ** 2 + (y - height / 3) ** 2 < (height / 5) ** 2] = rng.integers(
        0, 255, 3
    )
    image[height // 2 : height // 2 + 20, width // 8 : width // 2] = rng.integers(0, 255, 3)
    return image


@pytest.fixture(scope="module")
def processor():
    pytest.importorskip("PIL", reason="transformers' own image processor needs Pillow")
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size={"shortest_edge": MINI.image_size_px}, crop_size=MINI.image_size_px
    )


@pytest.fixture(scope="module")
def squasher():
    """SigLIP 2's, as google/siglip2-base-patch16-224 is configured."""
    pytest.importorskip("PIL", reason="transformers' own image processor needs Pillow")
    from transformers import SiglipImageProcessorPil

    return SiglipImageProcessorPil(
        size={"height": MINI.image_size_px, "width": MINI.image_size_px}, resample=2
    )


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    path = tmp_path_factory.mktemp("vision") / "model.onnx"
    module = ClipVision(mini_clip(MINI, seed=1)).eval()
    export_onnx(module, models(MINI)["clip_vision"], path)
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("how", "own_processor"), [("crop", "processor"), ("squash", "squasher")])
@pytest.mark.parametrize("kind", [photograph, rendered])
def test_frames_are_fitted_as_the_checkpoints_own_processor_does(
    kind, how, own_processor, vision, request
):
    images = [kind(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
    fitted = FrameFitter(MINI.image_size_px, how)(images)
    processor = request.getfixturevalue(own_processor)
    own = processor(images, do_rescale=False, do_normalize=False, return_tensors="np")
    reference = own["pixel_values"].astype(np.uint8)
    differences = np.abs(fitted.astype(int) - reference.astype(int)).mean(axis=(1, 2, 3))
    assert differences.max() <= MEAN_LEVELS, differences
    actual, expected = (vision.run(None, {"PIXELS": pixels})[0] for pixels in (fitted, reference))
    assert (actual * expected).sum(axis=1).min() >= LEAST_COSINE


def test_another_crop_would_be_seen_by_this_test(processor):
    """So that the agreement above means something: a shift by four pixels is far outside of it."""
    images = [photograph(360, 640, seed=1)]
    fitted = FrameFitter(MINI.image_size_px)(images)
    shifted = FrameFitter(MINI.image_size_px)([np.roll(images[0], 15, axis=1)])
    assert np.abs(fitted.astype(int) - shifted.astype(int)).mean() > 5 * MEAN_LEVELS
    own = processor(images, do_rescale=False, do_normalize=False, return_tensors="np")
    assert own["pixel_values"].shape == fitted.shape


def test_a_squashed_picture_is_another_than_a_cut_one():
    images = [photograph(360, 640, seed=1)]
    cut, squashed = (FrameFitter(MINI.image_size_px, how)(images) for how in ("crop", "squash"))
    assert np.abs(cut.astype(int) - squashed.astype(int)).mean() > 5 * MEAN_LEVELS


@pytest.mark.parametrize(
    ("own_processor", "constants"),
    [("processor", (CLIP_MEAN, CLIP_STD)), ("squasher", (SIGLIP_MEAN, SIGLIP_STD))],
)
def test_pixels_are_normalised_inside_the_graph_as_the_processor_does(
    own_processor, constants, request
):
    processor = request.getfixturevalue(own_processor)
    pixels = photograph(96, 96, seed=3)
    expected = processor([pixels], return_tensors="np")["pixel_values"]
    chw = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
    assert Normalise(*constants)(chw).numpy() == pytest.approx(expected, abs=1e-5)
    assert (tuple(processor.image_mean), tuple(processor.image_std)) == constants


def test_sound_is_normalised_inside_the_graph_as_the_feature_extractor_does():
    heard = []
    spy = torch.nn.Module()
    spy.forward = lambda audio: heard.append(audio) or audio[:, :4]  # type: ignore[method-assign]
    module = Sound(spy)
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=AUDIO_RATE_HZ, do_normalize=True)
    quiet = 0.003 * sounds()[1] + 0.2  # far from zero mean and unit variance
    for sound in (*sounds()[:6], quiet, sounds()[2][:5_000]):
        module(torch.from_numpy(sound[None]))
        expected = extractor(sound, sampling_rate=AUDIO_RATE_HZ, return_tensors="np")
        assert heard[-1].numpy() == pytest.approx(expected["input_values"], abs=1e-3)
