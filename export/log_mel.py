"""CLAP's spectrogram as a torch module: 16 kHz sound in, what its audio tower reads out.

The contract's sound has 16 kHz and CLAP's 48 kHz, so it is resampled here, by a filter whose images
are as weak as the spectrogram's floor. All products are convolutions: in int8, which MatMuls are
tried in, a spectrum's powers would be lost.

Source: transformers' `ClapFeatureExtractor` with `rand_trunc` and `repeatpad`, as the unfused
checkpoints are configured; a sound longer than theirs is cut at its end rather than at random.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank

from ensembles.contracts import AUDIO_RATE_HZ

RATE_HZ = 48_000
LENGTH_SAMPLES = 10 * RATE_HZ  # what is shorter is repeated
WINDOW_SAMPLES = 1_024
HOP_SAMPLES = 480
MELS = 64
LOWEST_HZ, HIGHEST_HZ = 50.0, 14_000.0
FLOOR = 1e-10  # of a power

PHASES = RATE_HZ // AUDIO_RATE_HZ
REACH_SAMPLES = 256  # of the resampling filter to each side, at 16 kHz
ROLL_OFF = 0.9875  # of 8 kHz: where the filter's slope has its middle; it ends at 8 kHz
KAISER_BETA = 10.0  # images about 100 dB down


class Upsample(nn.Module):
    """16 kHz sound to 48 kHz by a windowed sinc, one filter for each of the three phases."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        steps = np.arange(-REACH_SAMPLES, REACH_SAMPLES + 1)[None, :]
        offsets = steps - np.arange(PHASES)[:, None] / PHASES  # (phases, taps), in samples
        inside = np.maximum(1 - (offsets / (REACH_SAMPLES + 1)) ** 2, 0)
        window = np.i0(KAISER_BETA * np.sqrt(inside)) / np.i0(KAISER_BETA)
        filters = ROLL_OFF * np.sinc(ROLL_OFF * offsets) * window
        self.register_buffer("filters", torch.tensor(filters[:, None], dtype=torch.float32))

    def forward(self, audio: Tensor) -> Tensor:
        """(n, samples) → (n, 3 · samples)."""
        phases = functional.conv1d(audio[:, None], self.filters, padding=REACH_SAMPLES)
        return phases.transpose(1, 2).flatten(1)


class LogMel(nn.Module):
    """16 kHz sound to the log-mel spectrogram of ten seconds at 48 kHz, in decibels."""

    transform: Tensor
    mels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.upsample = Upsample()
        mels = mel_filter_bank(
            num_frequency_bins=WINDOW_SAMPLES // 2 + 1,
            num_mel_filters=MELS,
            min_frequency=LOWEST_HZ,
            max_frequency=HIGHEST_HZ,
            sampling_rate=RATE_HZ,
            norm="slaney",
            mel_scale="slaney",
        )  # (bins, mels)
        heard = np.flatnonzero(mels.any(axis=1))  # the bins that some mel band listens to
        turns = heard[:, None] * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES
        window = np.hanning(WINDOW_SAMPLES + 1)[:-1]
        waves = np.concatenate([np.cos(math.tau * turns), np.sin(math.tau * turns)]) * window
        self.register_buffer("transform", torch.tensor(waves[:, None], dtype=torch.float32))
        self.register_buffer("mels", torch.tensor(mels[heard].T[:, :, None], dtype=torch.float32))

    def forward(self, audio: Tensor) -> Tensor:
        """(n, samples) → (n, 1, frames, mels)."""
        sound = repeated(self.upsample(audio))[:, None]
        half = WINDOW_SAMPLES // 2
        framed = functional.pad(sound, (half, half), mode="reflect")
        spectrum = functional.conv1d(framed, self.transform, stride=HOP_SAMPLES)
        cosines, sines = spectrum.chunk(2, dim=1)  # (n, bins, frames) each
        powers = functional.conv1d(cosines**2 + sines**2, self.mels)
        return 10 * torch.log10(powers.clamp(min=FLOOR)).transpose(1, 2)[:, None]


def repeated(sound: Tensor) -> Tensor:
    """Repeat sounds as often as they fit whole into LENGTH_SAMPLES; silence fills the rest.

    Args:
        sound: (n, samples); of more samples than LENGTH_SAMPLES those at the end are cut off.
    """
    length = sound.shape[1]
    places = torch.arange(LENGTH_SAMPLES, device=sound.device)
    within = places % length
    whole = (places - within + length <= LENGTH_SAMPLES) | (places < length)
    return sound[:, within] * whole.to(sound.dtype)
