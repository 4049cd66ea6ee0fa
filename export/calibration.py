"""What unrelated things score: the bands that make a leg's relevance absolute."""

import numpy as np
import onnxruntime as ort

from ensembles.arrays import FloatArray, UInt8Array
from ensembles.bundle import Band
from ensembles.contracts import AUDIO_RATE_HZ, AUDIO_WINDOW_SAMPLES

BACKGROUND_SIZE = 64  # unrelated images, or sounds
BACKGROUND_QUANTILE = 0.9  # of the cosines of unrelated pairs: relevance is 0 up to here
IDENTICAL = 1.0


def visual_band(session: ort.InferenceSession, size_px: int, seed: int) -> Band:
    """Return the band of a vision encoder, from rendered images that have nothing in common."""
    pixels = np.stack([_image(np.random.default_rng((seed, i)), size_px) for i in _background()])
    return background_band(session.run(None, {"PIXELS": pixels})[0])


def sound_band(session: ort.InferenceSession, seed: int) -> Band:
    """Return the band of a sound encoder, from sounds that have nothing in common."""
    sounds = [_sound(np.random.default_rng((seed, i))) for i in _background()]
    embeddings = [session.run(None, {"AUDIO": sound[None]})[0][0] for sound in sounds]
    return background_band(np.stack(embeddings))


def background_band(embeddings: FloatArray) -> Band:
    """Return the band from the cosines of all pairs of unrelated unit vectors, shape (n, width)."""
    cosines = (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), k=1)]
    return Band(low=float(np.quantile(cosines, BACKGROUND_QUANTILE)), high=IDENTICAL)


def _background() -> range:
    return range(BACKGROUND_SIZE)


def _image(rng: np.random.Generator, size_px: int) -> UInt8Array:
    """Render a coloured plane wave over a gradient with a disc: (3, size, size)."""
    y, x = np.mgrid[0 : 1 : size_px * 1j, 0 : 1 : size_px * 1j]
    pitch_x, pitch_y = rng.uniform(-30, 30, 2)
    wave = np.sin(pitch_x * x + pitch_y * y + rng.uniform(0, 6))
    gradient = rng.uniform(-1, 1) * x + rng.uniform(-1, 1) * y
    centre_x, centre_y, radius = rng.uniform(0.1, 0.9, 3)
    disc = (x - centre_x) ** 2 + (y - centre_y) ** 2 < (radius / 2) ** 2
    mixed = rng.uniform(-1, 1, (3, 3)) @ np.stack([wave, gradient, disc]).reshape(3, -1)
    scaled = 127 + 100 * mixed.reshape(3, size_px, size_px) + rng.uniform(-60, 60, (3, 1, 1))
    pixels: UInt8Array = np.clip(scaled, 0, 255).astype(np.uint8)
    return pixels


def _sound(rng: np.random.Generator) -> FloatArray:
    """Render a tone, a sweep or a burst of noise: (AUDIO_WINDOW_SAMPLES,)."""
    time_s = np.arange(AUDIO_WINDOW_SAMPLES) / AUDIO_RATE_HZ
    start_hz, end_hz = np.exp(rng.uniform(np.log(80), np.log(6_000), 2))
    frequency = start_hz + (end_hz - start_hz) * rng.choice([0, 1]) * time_s / time_s[-1]
    tone = np.sin(2 * np.pi * np.cumsum(frequency) / AUDIO_RATE_HZ)
    noise = rng.normal(0, rng.choice([0.02, 0.5]), AUDIO_WINDOW_SAMPLES)
    rhythm = np.sin(2 * np.pi * rng.uniform(0.5, 12) * time_s) > rng.uniform(-1, 0.5)
    sound: FloatArray = ((tone + noise) * rhythm).astype(np.float32)
    return sound
