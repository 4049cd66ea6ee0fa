"""What words score against pixels, sounds and fused embeddings: measured on the made-up corpus.

Words are never as near to a picture as two pictures are to each other, so each leg that words
search has a band of its own. Its low end is what captions score that are not of a segment, or
sentences that are of nothing in the corpus; its high end is what the right captions score.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from ensembles.arrays import FloatArray
from ensembles.bundle import Band
from ensembles.contracts import AUDIO_WINDOW_S, TEXT_MODELS, Padding, TextEncoder
from export import samples
from export.calibration import BACKGROUND_QUANTILE, equivalence_band
from export.precision import run_encoder
from export.profile_rows import Profile
from export.sentences import embed_sentences
from training.corpus import Described, evaluation_set
from training.world.captions import Kind
from training.world.drawing import draw
from training.world.hearing import synthesise
from training.world.scenes import Segment

SEED = 2  # of the segments: not those of the evaluation
SEGMENTS = 48
FRAME_TIMES_S = (0.6, 2.5, 4.4)
WINDOW_TIMES_S = (0.3, 2.6)
KINDS: dict[str, tuple[Kind, ...]] = {  # of the captions, by leg
    "visual": ("object", "colour"),
    "sound": ("sound",),
    "fused": ("object", "motion", "mixed"),
}


def word_bands(profile: Profile, staging: Path) -> dict[str, Band]:
    """Return the bands of words for all that the profile compares them with.

    Args:
        profile: with trained weights.
        staging: folder of the exported models.

    Returns:
        `visual_by_words`, `sound_by_words`, `fused_by_words`; with the last one also `fused`, of
        pictures against fused embeddings.
    """
    able, described = profile.capabilities, evaluation_set(SEED, SEGMENTS)
    segments = [row.segment for row in described]
    bands, frames = {}, np.zeros(0, np.float32)
    if able.words_to_pixels:
        times_s = FRAME_TIMES_S if able.fusion_trained else FRAME_TIMES_S[1:2]
        frames = _frames(segments, times_s, profile.dims.image_size_px, staging)
        words = _Words("clip", profile.clip.tokens, profile.clip.padding, staging)
        bands["visual_by_words"] = words.band("visual", described, _unit(frames.mean(axis=1)))
    if able.words_to_sounds:
        audio = _audio(segments, staging)
        words = _Words("clip", profile.clip.tokens, profile.clip.padding, staging)
        if profile.dims.sound_text_tokens:
            words = _Words("sound_text", profile.dims.sound_text_tokens, "bucket", staging)
        bands["sound_by_words"] = words.band("sound", described, _unit(audio.mean(axis=1)))
    if able.fusion_trained:
        fused = _fused(segments, frames, _audio(segments, staging), profile, staging)
        words = _Words("clip", profile.clip.tokens, profile.clip.padding, staging)
        bands["fused_by_words"] = words.band("fused", described, fused)
        bands["fused"] = equivalence_band(frames[:, 1], fused)
    return bands


class _Words:
    """A text encoder, and what it says of captions."""

    def __init__(self, encoder: TextEncoder, tokens: int, padding: Padding, staging: Path) -> None:
        tokenizer = Tokenizer.from_file(str(staging / "tokenize" / f"{encoder}.json"))
        self._texts = samples.TextSample(tokenizer, encoder.upper(), tokens, padding)
        self._path = staging / TEXT_MODELS[encoder] / "model.onnx"

    def band(self, leg: str, described: Sequence[Described], things: FloatArray) -> Band:
        """Return the band of captions against the embeddings of their segments (n, width)."""
        queries, rows = _pairs(described, KINDS[leg])
        band = equivalence_band(self._embed(queries), things[rows])
        return _above_strangers(band, self._embed(samples.spoken_sentences()), things[rows])

    def _embed(self, texts: Sequence[str]) -> FloatArray:
        return run_encoder(self._path, self._texts.sentences(texts))


def _above_strangers(band: Band, strangers: FloatArray, things: FloatArray) -> Band:
    """Raise a band's low end to what sentences score that are about nothing in the corpus."""
    low = float(np.quantile(strangers @ things.T, BACKGROUND_QUANTILE))
    return Band(low=min(max(band.low, low), band.high - 0.05), high=band.high)


def _pairs(described: Sequence[Described], kinds: Sequence[Kind]) -> tuple[list[str], list[int]]:
    found = [
        (caption.text, row)
        for row, segment in enumerate(described)
        for caption in segment.captions
        if caption.kind in kinds
    ]
    return [text for text, _ in found], [row for _, row in found]


def _frames(
    segments: Sequence[Segment], times_s: Sequence[float], size_px: int, staging: Path
) -> FloatArray:
    """Return (segments, times, vision)."""
    feeds = [{"PIXELS": draw(s.look, times_s, (size_px, size_px))} for s in segments]
    rows = run_encoder(staging / "clip_vision" / "model.onnx", feeds)
    return rows.reshape(len(segments), len(times_s), -1)


def _audio(segments: Sequence[Segment], staging: Path) -> FloatArray:
    """Return (segments, windows, audio); a segment without sound has zeros."""
    feeds, heard = [], []
    for row, segment in enumerate(segments):
        if segment.sound:
            windows = [synthesise(segment.sound, AUDIO_WINDOW_S, at) for at in WINDOW_TIMES_S]
            feeds.append({"AUDIO": np.stack(windows)})
            heard.append(row)
    found = run_encoder(staging / "wav2vec2" / "model.onnx", feeds)
    audio = np.zeros((len(segments), len(WINDOW_TIMES_S), found.shape[1]), np.float32)
    audio[heard] = found.reshape(len(heard), len(WINDOW_TIMES_S), -1)
    return audio


def _fused(
    segments: Sequence[Segment],
    frames: FloatArray,
    audio: FloatArray,
    profile: Profile,
    staging: Path,
) -> FloatArray:
    """Return (segments, fused) with each modality that a segment has at the weight 1."""
    said = [segment.speech.transcript if segment.speech else "" for segment in segments]
    text = embed_sentences(profile, staging, said)
    heard = (np.abs(audio).sum(axis=(1, 2)) > 0).astype(np.float32)
    feed: Mapping[str, FloatArray] = {
        "FRAME_TOKENS": frames,
        "FRAME_TOKEN_WEIGHTS": np.ones(frames.shape[:2], np.float32),
        "AUDIO_TOKENS": audio,
        "AUDIO_TOKEN_WEIGHTS": np.repeat(heard[:, None], audio.shape[1], axis=1),
        "TEXT_TOKENS": text[:, None],
        "TEXT_TOKEN_WEIGHTS": np.array([[float(bool(line))] for line in said], np.float32),
    }
    return run_encoder(staging / "fusion" / "model.onnx", [dict(feed)])


def _unit(rows: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: FloatArray = rows / np.maximum(lengths, 1e-6)
    return unit
