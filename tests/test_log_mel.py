"""CLAP's spectrogram inside the graph, against transformers' own feature extractor."""

import numpy as np
import pytest
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from ensembles.contracts import AUDIO_RATE_HZ
from export.log_mel import LENGTH_SAMPLES, RATE_HZ, LogMel, Upsample, repeated
from export.modules import ClapSound
from export.samples import sounds
from tests.small_rows import HTSAT

IMAGE_DB = -90.0  # what is left of a tone's images over 8 kHz
LENGTHS = [500, 8_000, 32_000, 59_200, 160_000, 200_000]  # samples at 16 kHz; 10 s are 160,000


@pytest.fixture(scope="module")
def extractor() -> ClapFeatureExtractor:
    """As laion/clap-htsat-unfused is configured."""
    return ClapFeatureExtractor(
        frequency_min=50, frequency_max=14_000, truncation="rand_trunc", padding="repeatpad"
    )


@pytest.fixture(scope="module")
def clap() -> ClapModel:
    torch.manual_seed(3)
    settings = {key: value for key, value in HTSAT.items() if key != "model_type"}
    model = ClapModel._from_config(ClapConfig(**settings), attn_implementation="eager")
    model.eval()
    return model


def heard(seed: int, samples: int) -> np.ndarray:
    return np.resize(sounds()[seed], samples)


def ideally_resampled(sound: np.ndarray) -> np.ndarray:
    """By zeros behind the spectrum: no filter, so no slope and no images."""
    spectrum = np.fft.rfft(sound.astype(np.float64))
    spectrum[-1] /= 2  # what stood for both signs of 8 kHz
    return 3 * np.fft.irfft(spectrum, 3 * len(sound))


def features(extractor: ClapFeatureExtractor, sound: np.ndarray) -> torch.Tensor:
    found = extractor(sound[:LENGTH_SAMPLES], sampling_rate=RATE_HZ, return_tensors="np")
    return torch.from_numpy(found["input_features"].astype(np.float32))


@pytest.mark.parametrize("samples", LENGTHS)
def test_the_spectrogram_is_the_feature_extractors(samples, extractor):
    sound = torch.from_numpy(heard(4, samples)[None])
    expected = features(extractor, Upsample()(sound)[0].numpy())
    actual = LogMel()(sound)
    assert actual.shape == expected.shape == (1, 1, 1001, 64)
    assert (actual - expected).abs().mean() < 0.001  # decibels
    assert (actual - expected).abs().max() < 0.1


@pytest.mark.parametrize("seed", range(6))
def test_embeddings_are_those_of_the_checkpoints_own_way(seed, extractor, clap):
    """From an ideal resampling they differ by the filter's slope at 8 kHz, as all filters do."""
    sound = heard(seed, 32_000)
    module = ClapSound(clap)
    with torch.no_grad():
        actual = module(torch.from_numpy(sound[None]))[0]
        same_sound = Upsample()(torch.from_numpy(sound[None]))[0].numpy()
        exact, ideal = (
            clap.get_audio_features(input_features=features(extractor, resampled)).pooler_output[0]
            for resampled in (same_sound, ideally_resampled(sound))
        )
    assert actual @ exact >= 0.9999
    assert actual @ ideal >= 0.99


@pytest.mark.parametrize("frequency_hz", [100, 1_000, 5_000, 7_500])
def test_a_tone_stays_that_tone_and_has_no_images(frequency_hz):
    seconds = 2
    time_s = np.arange(seconds * AUDIO_RATE_HZ) / AUDIO_RATE_HZ
    tone = np.sin(2 * np.pi * frequency_hz * time_s).astype(np.float32)
    resampled = Upsample()(torch.from_numpy(tone[None]))[0].numpy()
    spectrum = np.abs(np.fft.rfft(resampled * np.blackman(len(resampled))))
    loudest = int(spectrum.argmax())
    assert loudest == frequency_hz * seconds
    images = spectrum[8_000 * seconds :].max() / spectrum[loudest]
    assert 20 * np.log10(images) < IMAGE_DB
    middle = slice(len(resampled) // 4, 3 * len(resampled) // 4)
    assert np.abs(resampled[middle]).max() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("samples", [1, 7, 160_001, 480_000, 480_001])
def test_a_sound_is_repeated_as_often_as_it_fits_whole(samples):
    sound = torch.arange(1.0, samples + 1)[None]
    actual = repeated(sound)[0]
    times = max(LENGTH_SAMPLES // samples, 1)
    expected = torch.zeros(LENGTH_SAMPLES)
    whole = sound[0].repeat(times)[:LENGTH_SAMPLES]
    expected[: len(whole)] = whole
    assert torch.equal(actual, expected)
