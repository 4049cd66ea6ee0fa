"""Sounds into samples: an event that recurs over a bed, many at a time. Pure."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ensembles.arrays import FloatArray
from ensembles.contracts import AUDIO_RATE_HZ
from training.world.scenes import BEDS, EVENTS, PITCHES, SEGMENT_S, TEMPOS, Sound

LOUDNESS = 0.3  # peak of a segment, of full scale
BED_LEVEL = 0.16  # root mean square, of the event's peak
FREQUENCIES_HZ = {  # of the low, middle and high pitch of an event
    "ah": (95, 170, 310),
    "ee": (95, 170, 310),
    "drum": (55, 120, 270),
    "bell": (300, 750, 1900),
    "burst": (300, 1200, 4500),
}
USUAL_HZ = (180, 540, 1600)
PITCH_JITTER = 0.13  # of a frequency's logarithm, to both sides
RATES_HZ = dict(zip(TEMPOS, (1.0, 2.6, 6.0), strict=True))  # events a second
RATE_JITTER = 0.1
DUTY = 0.6  # of the time between two events that one lasts
QUIETEST = 0.12  # where a swell begins or ends
FORMANTS_HZ = {"ah": ((800, 120), (1250, 150), (2700, 250)), "ee": ((290, 80), (2350, 250))}
PARTIALS = ((1.0, 1.0), (2.76, 0.55), (5.4, 0.3))  # of a struck bar, and how loud each is
CHORD_HZ = (220.0, 277.2, 329.6)

Wave = Callable[["Strokes"], Tensor]


class Strokes:
    """The events of several sounds: how long ago each began, at each sample.

    Args:
        sounds: (n) sounds.
        times_s: (n, samples) since the segment's start.
    """

    def __init__(self, sounds: Sequence[Sound], times_s: Tensor) -> None:
        chances = torch.tensor([_chances(sound) for sound in sounds])[:, :, None]
        rate = torch.tensor([RATES_HZ[sound.tempo] for sound in sounds])[:, None]
        self.rate_hz = rate * (1 + RATE_JITTER * chances[:, 0])  # (n, 1)
        hz = torch.tensor([_frequency(sound) for sound in sounds])[:, None]
        self.hz = hz * torch.exp(PITCH_JITTER * chances[:, 1])  # (n, 1)
        turns = times_s * self.rate_hz + 0.5 + 0.5 * chances[:, 2]
        self.since_s = (turns - torch.floor(turns)) / self.rate_hz  # (n, samples)
        self.share = self.since_s * self.rate_hz / DUTY  # 0 … 1 while it lasts, then more
        self.generator = torch.Generator().manual_seed(sounds[0].seed)

    def envelope(self) -> Tensor:
        """Return 1 while an event lasts, with soft edges."""
        edge_s = torch.minimum(self.since_s, DUTY / self.rate_hz - self.since_s)
        return (edge_s / 0.012).clamp(0, 1)

    def noise(self) -> Tensor:
        """Return white noise of the strokes' shape."""
        return torch.randn(self.since_s.shape, generator=self.generator)


def synthesise(sound: Sound, seconds: float, start_s: float = 0.0) -> FloatArray:
    """Return a sound: (samples,) at AUDIO_RATE_HZ, within ±LOUDNESS.

    Args:
        sound: what to make.
        seconds: how long.
        start_s: since the segment's start; a swell ends at SEGMENT_S.
    """
    samples = synthesise_batch([sound], [start_s], round(seconds * AUDIO_RATE_HZ))
    return np.asarray(samples[0].numpy())


def synthesise_batch(sounds: Sequence[Sound], starts_s: Sequence[float], samples: int) -> Tensor:
    """Return sounds, each from a time of its own: (sounds, samples) float32."""
    starts = torch.tensor(starts_s, dtype=torch.float32)[:, None]
    times = starts + torch.arange(samples) / AUDIO_RATE_HZ
    mixed = torch.empty(len(sounds), samples)
    for event in EVENTS:
        rows = [i for i, sound in enumerate(sounds) if sound.event == event]
        if rows:
            mixed[rows] = WAVES[event](Strokes([sounds[i] for i in rows], times[rows]))
    mixed /= mixed.abs().amax(dim=1, keepdim=True).clamp(min=1e-3)
    mixed *= _swell(sounds, times)
    for bed in BEDS[1:]:
        rows = [i for i, sound in enumerate(sounds) if sound.bed == bed]
        if rows:
            mixed[rows] += _level(BED_WAVES[bed](times[rows], _generator(sounds[rows[0]])))
    return (mixed * (LOUDNESS / 1.5)).clamp(-LOUDNESS, LOUDNESS)


def _frequency(sound: Sound) -> float:
    return float(FREQUENCIES_HZ.get(sound.event, USUAL_HZ)[PITCHES.index(sound.pitch)])


def _chances(sound: Sound) -> list[float]:
    drawn: list[float] = np.random.default_rng(sound.seed).uniform(-1, 1, 3).tolist()
    return drawn


def _generator(sound: Sound) -> torch.Generator:
    return torch.Generator().manual_seed(sound.seed + 1)


def _swell(sounds: Sequence[Sound], times_s: Tensor) -> Tensor:
    """Return how loud the event is: (sounds, samples) QUIETEST … 1."""
    at = (times_s / SEGMENT_S).clamp(0, 1)
    rising = torch.tensor([sound.swell == "louder" for sound in sounds])[:, None]
    steady = torch.tensor([sound.swell == "steady" for sound in sounds])[:, None]
    louder = QUIETEST ** (1 - torch.where(rising, at, 1 - at))
    return torch.where(steady, torch.full_like(louder, 0.6), louder)


def _level(bed: Tensor) -> Tensor:
    return bed * (BED_LEVEL / bed.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6))


def _sine(turns: Tensor) -> Tensor:
    return torch.sin(2 * torch.pi * turns)


def _slide(strokes: Strokes, first: float, last: float) -> Tensor:
    """Return a tone that slides between two multiples of its frequency while an event lasts."""
    share = strokes.share.clamp(max=1)
    mean = first + (last - first) * share / 2
    return _sine(strokes.hz * mean * strokes.since_s) * strokes.envelope()


def _beep(strokes: Strokes) -> Tensor:
    return _sine(strokes.hz * strokes.since_s) * strokes.envelope()


def _warble(strokes: Strokes) -> Tensor:
    wobble = 0.25 / 11 * _sine(11 * strokes.since_s) * strokes.hz / torch.pi
    return _sine(strokes.hz * strokes.since_s + wobble) * strokes.envelope()


def _burst(strokes: Strokes) -> Tensor:
    return _shape(strokes.noise(), _peaks(strokes.hz, 0.25 * strokes.hz)) * strokes.envelope()


def _drum(strokes: Strokes) -> Tensor:
    bend = strokes.hz * (strokes.since_s + 0.03 * (1 - torch.exp(-30 * strokes.since_s)))
    click = 0.25 * strokes.noise() * torch.exp(-90 * strokes.since_s)
    return _sine(bend) * torch.exp(-11 * strokes.since_s) + click


def _bell(strokes: Strokes) -> Tensor:
    rung = sum(loud * _sine(ratio * strokes.hz * strokes.since_s) for ratio, loud in PARTIALS)
    return torch.as_tensor(rung) * torch.exp(-6 * strokes.since_s)


def _buzz(strokes: Strokes) -> Tensor:
    return torch.tanh(6 * _sine(strokes.hz * strokes.since_s)) * strokes.envelope()


def _vowel(strokes: Strokes, formants: Sequence[tuple[float, float]]) -> Tensor:
    turns = strokes.hz * strokes.since_s
    saw = 2 * (turns - torch.floor(turns)) - 1
    gains = [_peaks(torch.full((1, 1), hz), torch.full((1, 1), width)) for hz, width in formants]
    return _shape(saw, lambda hz: torch.stack([gain(hz) for gain in gains]).sum(dim=0)) * (
        strokes.envelope()
    )


WAVES: dict[str, Wave] = {
    "beep": _beep,
    "rising": lambda strokes: _slide(strokes, 0.7, 1.8),
    "falling": lambda strokes: _slide(strokes, 1.8, 0.7),
    "warble": _warble,
    "burst": _burst,
    "drum": _drum,
    "bell": _bell,
    "ah": lambda strokes: _vowel(strokes, FORMANTS_HZ["ah"]),
    "ee": lambda strokes: _vowel(strokes, FORMANTS_HZ["ee"]),
    "buzz": _buzz,
}


def _peaks(centre_hz: Tensor, width_hz: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda hz: torch.exp(-(((hz - centre_hz) / width_hz) ** 2))


def _shape(wave: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
    """Weigh the frequencies of waves (n, samples) by a gain over Hz."""
    hz = torch.fft.rfftfreq(wave.shape[1], 1 / AUDIO_RATE_HZ)[None]
    shaped: Tensor = torch.fft.irfft(torch.fft.rfft(wave) * gain(hz), n=wave.shape[1])
    return shaped


def _white(times_s: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(times_s.shape, generator=generator)


def _phases(times_s: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand((len(times_s), 1), generator=generator)


def _wind(times_s: Tensor, generator: torch.Generator) -> Tensor:
    gusts = 0.6 + 0.4 * _sine(0.7 * times_s + _phases(times_s, generator))
    return _band(_white(times_s, generator), 450, 200) * gusts


def _patter(times_s: Tensor, generator: torch.Generator) -> Tensor:
    drops = torch.rand(times_s.shape, generator=generator) < 30 / AUDIO_RATE_HZ
    return _band(drops * _white(times_s, generator), 2600, 700)


def _hum(times_s: Tensor, generator: torch.Generator) -> Tensor:
    phase = _phases(times_s, generator)
    return _sine(100 * times_s + phase) + 0.6 * _sine(200 * times_s) + 0.4 * _sine(300 * times_s)


def _chord(times_s: Tensor, generator: torch.Generator) -> Tensor:
    phase = _phases(times_s, generator)
    return torch.stack([_sine(hz * times_s + phase * hz) for hz in CHORD_HZ]).sum(dim=0)


def _crickets(times_s: Tensor, generator: torch.Generator) -> Tensor:
    pulses = _sine(32 * times_s + _phases(times_s, generator)).clamp(min=0)
    return _sine(4200 * times_s) * pulses


def _band(noise: Tensor, centre_hz: float, width_hz: float) -> Tensor:
    return _shape(noise, lambda hz: torch.exp(-(((hz - centre_hz) / width_hz) ** 2)))


BED_WAVES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "hiss": lambda times_s, generator: _band(_white(times_s, generator), 7000, 2500),
    "rumble": lambda times_s, generator: _band(_white(times_s, generator), 0, 110),
    "hum": _hum,
    "wind": _wind,
    "patter": _patter,
    "chord": _chord,
    "crickets": _crickets,
}
