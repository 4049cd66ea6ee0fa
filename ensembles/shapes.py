"""The shapes that encoders are tuned, warmed and captured for. Pure.

A TensorRT engine runs any shape inside one of its optimisation profiles and is quickest at that
profile's best one; Triton picks, of the profiles that take a request, the one whose best shape is
nearest. Warm-up requests run the shapes that clients send first, so that no client pays for what a
runtime does at the first sight of a shape.
"""

from collections.abc import Iterator
from itertools import product

import msgspec

from ensembles.contracts import (
    AUDIO_WINDOW_SAMPLES,
    MAX_AUDIO_SAMPLES,
    MAX_CHUNK_FRAMES,
    TOKEN_BUCKETS,
    Dimensions,
    Model,
)

BATCHES = (1, 16, 64)  # that engines are tuned for: one query, a few, an ingest chunk's frames
GRAPH_BATCHES = (1, 2, 4, 8)  # of texts that CUDA graphs are captured for
QUERY_TOKENS = 32  # a query has at most this many tokens, nearly always
SHORTEST_SOUND_SAMPLES = 400  # what the first frame of a Wav2Vec2 needs
LONG_SOUND_BATCH = 16  # over this many rows, engines take windows alone: 30 s each need too much
BEST_TOKENS = 8  # of a segment, for the fusion network


class Lengths(msgspec.Struct, frozen=True):
    """The range of a variable axis, and the length to be quickest at."""

    least: int
    best: int
    most: int


class ShapeRange(msgspec.Struct, frozen=True):
    """The shapes of one input, its batch axis first."""

    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]


EngineProfile = dict[str, ShapeRange]  # of each input


class RunShape(msgspec.Struct, frozen=True):
    """One shape to run: rows, and the length of the variable axes (unused where there are none)."""

    batch: int
    length: int


def token_limits(dims: Dimensions) -> dict[str, int]:
    """Return the longest text of each text encoder, in tokens, by the model's name."""
    return {
        "clip_text": dims.clip_tokens,
        "sentence": dims.sentence_tokens,
        "sound_text": dims.sound_text_tokens,
    }


def token_lengths(limit: int) -> tuple[int, ...]:
    """Return every length that token ids are padded to, where `limit` are allowed."""
    return (*(size for size in TOKEN_BUCKETS if size < limit), limit)


def engine_profiles(model: Model, dims: Dimensions) -> tuple[EngineProfile, ...]:
    """Return an encoder's optimisation profiles, in the order of their indices.

    Args:
        model: the contract of an encoder.
        dims: the profile's sizes.
    """
    return tuple(
        {
            tensor.name: ShapeRange(
                (1, *_filled(tensor.shape, lengths.least)),
                (batch, *_filled(tensor.shape, lengths.best)),
                (batch, *_filled(tensor.shape, lengths.most)),
            )
            for tensor in model.inputs
        }
        for batch in BATCHES
        if batch <= model.max_batch
        for lengths in _lengths(model, batch, dims)
    )


def warm_shapes(model: Model, dims: Dimensions, *, gpu: bool) -> tuple[RunShape, ...]:
    """Return what an encoder runs before it is ready: a query's shapes, on a GPU batches too."""
    batches = [batch for batch in BATCHES if batch <= model.max_batch] if gpu else [1]
    return tuple(RunShape(*pair) for pair in product(batches, _first_lengths(model, dims)))


def graph_shapes(model: Model, dims: Dimensions) -> tuple[RunShape, ...]:
    """Return the small batches of short texts that CUDA graphs are captured for."""
    return tuple(RunShape(*pair) for pair in product(GRAPH_BATCHES, _first_lengths(model, dims)))


def input_shapes(model: Model, length: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each input without its batch axis, its variable axes filled in."""
    return {tensor.name: _filled(tensor.shape, length) for tensor in model.inputs}


def _filled(shape: tuple[int, ...], length: int) -> tuple[int, ...]:
    return tuple(length if axis == -1 else axis for axis in shape)


def _lengths(model: Model, batch: int, dims: Dimensions) -> Iterator[Lengths]:
    """Yield the ranges of the variable axes of an encoder's inputs, one a profile."""
    limits = token_limits(dims)
    if all(-1 not in tensor.shape for tensor in model.inputs):
        yield Lengths(1, 1, 1)
    elif model.name in limits:
        yield from _token_ranges(limits[model.name])
    elif model.name == "fusion":
        yield Lengths(1, BEST_TOKENS, MAX_CHUNK_FRAMES)
    else:
        most = MAX_AUDIO_SAMPLES if batch <= LONG_SOUND_BATCH else AUDIO_WINDOW_SAMPLES
        yield Lengths(SHORTEST_SOUND_SAMPLES, AUDIO_WINDOW_SAMPLES, most)


def _token_ranges(limit: int) -> Iterator[Lengths]:
    """Yield the range of queries, and that of longer texts where there are any."""
    sizes = token_lengths(limit)
    short = [size for size in sizes if size <= QUERY_TOKENS]
    long = [size for size in sizes if size > QUERY_TOKENS]
    for part in (short, long):
        if part:
            yield Lengths(part[0], part[len(part) // 2], part[-1])


def _first_lengths(model: Model, dims: Dimensions) -> tuple[int, ...]:
    """Return the lengths that a client's first calls have."""
    limits = token_limits(dims)
    if all(-1 not in tensor.shape for tensor in model.inputs):
        return (1,)
    if model.name in limits:
        sizes = token_lengths(limits[model.name])
        return tuple(size for size in sizes if size <= QUERY_TOKENS) or sizes[:1]
    return (BEST_TOKENS,) if model.name == "fusion" else (AUDIO_WINDOW_SAMPLES,)
