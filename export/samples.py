"""Real inputs to try encoders on: sentences, rendered images, sounds. The same every time."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from deploy.demo.topics import read_queries, read_topics
from ensembles.arrays import FloatArray, UInt8Array
from ensembles.contracts import AUDIO_RATE_HZ, AUDIO_WINDOW_SAMPLES, Padding, Tensor, bucket

Feed = dict[str, Any]  # tensor name → array, the inputs of one run

BACKGROUND_SIZE = 64  # images, or sounds, that have nothing in common
SEED = 7
TEXT_BATCH = 8  # sentences of different lengths that are run together
LONGEST_TOKENS = 77  # texts of 1 … this many tokens
LENGTH_STEP = 4
SOUND_LENGTHS_S = (0.5, 1.0, 2.0, 3.7)

SUBJECTS = ("The old ferry", "A tired nurse", "My neighbour's cat", "The new railway bridge",
            "Every second pupil", "The orchestra", "A spider", "The price of copper",
            "Our football team", "The volcano")  # fmt: skip
EVENTS = ("was late again because of the storm", "fell by a third within a week",
          "is finally being repaired", "sleeps through most of the afternoon",
          "won after extra time", "frightened the tourists", "needs fresh water twice a day",
          "played Dvořák for 2 hours", "crossed the border at night",
          "turned out to be older than anyone had thought")  # fmt: skip


def plain_sentences() -> list[str]:
    """Return a hundred made-up sentences: to calibrate on, apart from those that judge."""
    return [f"{subject} {event}." for subject, event in product(SUBJECTS, EVENTS)]


def spoken_sentences() -> list[str]:
    """Return what is said in the demo videos and what is asked of them: written by people."""
    queries = read_queries()
    cues = [cue.text for topic in read_topics() for cue in topic.cue]
    return [*cues, *(query.text for query in (*queries.paraphrase, *queries.keyword))]


def answered_queries() -> list[tuple[str, str]]:
    """Return pairs of texts that mean the same in other words: a query and what answers it."""
    topics = {topic.name: topic for topic in read_topics()}
    return [
        (query.text, cue.text)
        for query in read_queries().paraphrase
        for cue in topics[query.video].cue
        if query.is_answered_by(cue.start_s, cue.end_s)
    ]


class TextSample:
    """Texts as a text encoder reads them."""

    def __init__(
        self, tokenizer: Tokenizer, prefix: str, limit: int, padding: Padding = "bucket"
    ) -> None:
        """Take the encoder's tokenizer, limit and padding, e.g. `CLIP` and 77 tokens."""
        self._tokenizer, self._prefix, self._limit = tokenizer, prefix, limit
        self._fixed = padding == "fixed"
        tokenizer.no_padding()

    def sentences(self, texts: Sequence[str]) -> list[Feed]:
        """Return batches of mixed lengths, each padded to a bucket."""
        self._tokenizer.enable_truncation(self._limit)
        starts = range(0, len(texts), TEXT_BATCH)
        return [self._feed(texts[start : start + TEXT_BATCH]) for start in starts]

    def lengths(self) -> list[Feed]:
        """Return single texts of few to LONGEST_TOKENS tokens, not padded where that is allowed."""
        text = " ".join(plain_sentences())
        feeds = []
        for length in range(3, min(self._limit, LONGEST_TOKENS) + 1, LENGTH_STEP):
            self._tokenizer.enable_truncation(length)
            feeds.append(self._feed([text], width=length))
        return feeds

    def padded(self, feed: Feed) -> Feed:
        """Return a feed with its token axis padded to the limit."""
        width = self._limit
        return {
            name: np.pad(ids, ((0, 0), (0, width - ids.shape[1]))) for name, ids in feed.items()
        }

    def _feed(self, texts: Sequence[str], width: int | None = None) -> Feed:
        rows = self._tokenizer.encode_batch(list(texts))
        longest = self._limit if self._fixed else max(len(row.ids) for row in rows)
        width = bucket(longest, self._limit) if self._fixed or width is None else width
        for row in rows:
            row.pad(width)
        return {
            f"{self._prefix}_IDS": np.array([row.ids for row in rows], dtype=np.int64),
            f"{self._prefix}_MASK": np.array([row.attention_mask for row in rows], dtype=np.int64),
        }


def images(size_px: int) -> UInt8Array:
    """Render images that have nothing in common: (BACKGROUND_SIZE, 3, size, size)."""
    return np.stack(
        [_image(np.random.default_rng((SEED, i)), size_px) for i in range(BACKGROUND_SIZE)]
    )


def sounds() -> list[FloatArray]:
    """Render sounds that have nothing in common, each (AUDIO_WINDOW_SAMPLES,)."""
    return [_sound(np.random.default_rng((SEED, i))) for i in range(BACKGROUND_SIZE)]


def sounds_of_several_lengths() -> list[FloatArray]:
    """Return batches of two sounds, of SOUND_LENGTHS_S: (2, samples) each."""
    first, second, *_ = (np.tile(sound, 2) for sound in sounds()[:2])
    lengths = [int(seconds * AUDIO_RATE_HZ) for seconds in SOUND_LENGTHS_S]
    return [np.stack([first[:length], second[:length]]) for length in lengths]


def token_feed(inputs: Sequence[Tensor], rows: int, tokens: int) -> Feed:
    """Draw tokens and their weights for the fusion network; a quarter of them is absent."""
    rng = np.random.default_rng(SEED)
    feed: Feed = {}
    for tensor in inputs:
        shape = (rows, tokens, *tensor.shape[1:])
        if len(tensor.shape) == 1:
            feed[tensor.name] = (rng.uniform(-1, 3, shape)).clip(0).astype(np.float32)
        else:
            feed[tensor.name] = rng.normal(size=shape).astype(np.float32)
    return feed


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
