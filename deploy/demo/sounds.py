"""Procedural sound for the demo scenes: pure, seeded."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from deploy.demo.topics import Scene, Sound, SoundKind

Samples = npt.NDArray[np.float32]

RATE_HZ = 48_000
LOUDNESS = 0.35  # peak of every scene, of full scale
FADE_S = 0.02  # at both ends of a scene, so that cuts do not click
NOTE_S = 0.25  # length of one note of an arpeggio
BELL_S = 1.0  # time between two strokes of a bell
MAJOR = (1.0, 5 / 4, 3 / 2, 2.0)  # a just major chord: root, third, fifth, octave


def scene_sound(scene: Scene, duration_s: float, seed: int) -> Samples:
    """Return a scene's sound, shape (samples,), mono at `RATE_HZ`, within ±`LOUDNESS`."""
    samples = round(duration_s * RATE_HZ)
    if scene.sound is None:
        return np.zeros(samples, np.float32)
    times = np.arange(samples) / RATE_HZ
    wave = _WAVES[scene.sound.kind](scene.sound, times, np.random.default_rng(seed))
    peak = float(np.abs(wave).max()) or 1.0
    fade = np.clip(np.minimum(times, duration_s - times) / FADE_S, 0, 1)
    return np.asarray(wave / peak * LOUDNESS * fade, np.float32)


Times = npt.NDArray[np.float64]
Wave = Callable[[Sound, Times, np.random.Generator], Times]


def _sine(hz: float | Times, times: Times) -> Times:
    return np.asarray(np.sin(2 * np.pi * hz * times))


def _arpeggio(sound: Sound, times: Times, _: np.random.Generator) -> Times:
    steps = (times / NOTE_S).astype(int)
    pitches = sound.hz * np.array(MAJOR)[np.array([0, 1, 2, 3, 2, 1])[steps % 6]]
    return np.asarray(_sine(pitches, times) * np.exp(-4 * (times % NOTE_S)))


def _bells(sound: Sound, times: Times, _: np.random.Generator) -> Times:
    since = times % BELL_S
    partials = ((1.0, 1.0), (2.76, 0.6), (5.4, 0.3))  # a struck bar's partials and how loud each is
    strokes = np.sum([a * _sine(sound.hz * f, since) for f, a in partials], axis=0)
    return np.asarray(strokes * np.exp(-5 * since))


def _chord(sound: Sound, times: Times, _: np.random.Generator) -> Times:
    tremolo = 0.8 + 0.2 * _sine(3.0, times)
    return np.asarray(np.sum([_sine(sound.hz * f, times) for f in MAJOR], axis=0) * tremolo)


def _hum(sound: Sound, times: Times, _: np.random.Generator) -> Times:
    wobble = 1 + 0.004 * _sine(0.7, times)
    partials = [_sine(sound.hz * k * wobble, times) / k for k in (1, 2, 3, 5)]
    return np.asarray(np.sum(partials, axis=0))


def _noise(sound: Sound, times: Times, random: np.random.Generator) -> Times:
    """Noise that swells and sinks, of which little is over `hz`."""
    width = max(2, round(RATE_HZ / sound.hz / 2))
    rough = random.standard_normal(len(times) + width)
    sums = np.cumsum(rough)
    smooth = (sums[width:] - sums[:-width])[: len(times)]
    return np.asarray(smooth * (0.6 + 0.4 * _sine(0.5, times)))


def _rain(sound: Sound, times: Times, random: np.random.Generator) -> Times:
    """Short clicks at random times that ring at `hz`."""
    clicks = np.where(random.random(len(times)) < 40 / RATE_HZ, random.random(len(times)), 0.0)
    ringing = np.arange(round(0.02 * RATE_HZ)) / RATE_HZ
    drop = _sine(sound.hz, ringing) * np.exp(-200 * ringing)
    return np.asarray(np.convolve(clicks, drop)[: len(times)])


def _rhythm(sound: Sound, times: Times, random: np.random.Generator) -> Times:
    """A drum on each beat and a brush between two, `hz` beats a minute."""
    beat_s = 60 / sound.hz
    since, between = times % beat_s, (times + beat_s / 2) % beat_s
    drum = _sine(60 + 80 * np.exp(-30 * since), since) * np.exp(-12 * since)
    brush = 0.3 * random.standard_normal(len(times)) * np.exp(-60 * between)
    return np.asarray(drum + brush)


def _sweep(sound: Sound, times: Times, _: np.random.Generator) -> Times:
    """A tone that climbs an octave and a half every two seconds."""
    return _sine(sound.hz * (1 + (times % 2.0) / 2), times % 2.0)


_WAVES: dict[SoundKind, Wave] = {
    "arpeggio": _arpeggio,
    "bells": _bells,
    "chord": _chord,
    "hum": _hum,
    "noise": _noise,
    "rain": _rain,
    "rhythm": _rhythm,
    "sweep": _sweep,
}
