"""A Triton for tests of what stands before it, and the contract shared with the real one."""

import asyncio
import hashlib
from collections.abc import Sequence

import numpy as np

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from ensembles.chunk import ChunkEmbeddings, ChunkInput
from gateway.errors import DeadlineExceeded, PixserveError
from gateway.triton import QueryEmbeddings, Triton

# Words that mean the same have the same number; all others mean nothing.
MEANINGS = {
    word: number
    for number, words in enumerate(
        [
            "bread loaf dough bake baking oven",
            "guitar chord strings strum",
            "volcano lava erupt crater",
            "cat kitten purr",
            "rocket launch orbit",
        ]
    )
    for word in words.split()
}

FILMED = b"bread 1"  # what every clip looks and sounds like: `picture("bread", 1)`


class FakeTriton:
    """Understands the words of `MEANINGS`; images and sounds are near only to themselves.

    Args:
        bundle: its dimensions.
        delay_s: how long each answer takes.
        error: what each call raises instead of answering.
    """

    def __init__(
        self, bundle: Bundle, *, delay_s: float = 0, error: PixserveError | None = None
    ) -> None:
        self.calls: list[str] = []
        self._dims = bundle.dims
        self._delay_s = delay_s
        self._error = error

    async def embed_query(self, text: str, *, timeout_s: float) -> QueryEmbeddings:
        await self._answer("embed_query", timeout_s)
        return QueryEmbeddings(
            clip=meaning(text, self._dims.vision), sentence=meaning(text, self._dims.sentence)
        )

    async def embed_text(self, texts: Sequence[str], role: str, *, timeout_s: float) -> FloatArray:
        await self._answer(f"embed_text {role}", timeout_s)
        return np.stack([meaning(text, self._dims.sentence) for text in texts])

    async def embed_clip_text(self, texts: Sequence[str], *, timeout_s: float) -> FloatArray:
        await self._answer("embed_clip_text", timeout_s)
        return np.stack([meaning(text, self._dims.vision) for text in texts])

    async def embed_sound_text(self, texts: Sequence[str], *, timeout_s: float) -> FloatArray:
        await self._answer("embed_sound_text", timeout_s)
        return np.stack([meaning(text, self._dims.audio) for text in texts])

    async def embed_images(self, images: Sequence[bytes], *, timeout_s: float) -> FloatArray:
        await self._answer("embed_images", timeout_s)
        return np.stack([looks(image, self._dims.vision) for image in images])

    async def embed_audio(self, windows: FloatArray, *, timeout_s: float) -> FloatArray:
        await self._answer("embed_audio", timeout_s)
        return np.stack([looks(window.tobytes(), self._dims.audio) for window in windows])

    async def embed_video(self, chunk: ChunkInput, *, timeout_s: float) -> ChunkEmbeddings:
        await self._answer("embed_video", timeout_s)
        dims, segments = self._dims, len(chunk.transcripts)
        return ChunkEmbeddings(
            frames=np.stack([looks(FILMED, dims.vision)] * len(chunk.frame_indices)),
            audio=np.stack([looks(FILMED, dims.audio)] * len(chunk.audio_starts_s)),
            text=np.zeros((segments, dims.sentence), np.float32),
            fused=np.stack([looks(FILMED, dims.fused)] * segments),
        )

    async def close(self) -> None:
        pass

    async def _answer(self, call: str, timeout_s: float) -> None:
        self.calls.append(call)
        await asyncio.sleep(min(self._delay_s, timeout_s))
        if self._delay_s > timeout_s:
            raise DeadlineExceeded("triton", "Triton answered too late")
        if self._error is not None:
            raise self._error


def meaning(text: str, width: int) -> FloatArray:
    """A unit vector of what a text's words mean, with a little of the text itself."""
    vector = 0.05 * looks(text.encode(), width)
    for word in text.lower().split():
        if word in MEANINGS:
            vector[MEANINGS[word]] += 1
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def looks(data: bytes, width: int) -> FloatArray:
    """A unit vector that only the same bytes have."""
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8])
    vector = np.random.default_rng(seed).standard_normal(width)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


async def check_query_embeddings(triton: Triton | FakeTriton, bundle: Bundle, png: bytes) -> None:
    """The contract of every Triton: shapes, unit rows of float32, the same for the same input.

    Args:
        triton: the fake, or the real one.
        bundle: whose models it serves.
        png: an encoded image.
    """
    dims = bundle.dims
    query = await triton.embed_query("baking bread", timeout_s=10)
    sentences = await triton.embed_text(["baking bread", "a cat"], "query", timeout_s=10)
    clips = await triton.embed_clip_text(["baking bread", "a cat"], timeout_s=10)
    images = await triton.embed_images([png, png], timeout_s=10)
    tone = np.sin(np.arange(16_000, dtype=np.float32))
    sounds = await triton.embed_audio(np.stack([tone, tone]), timeout_s=10)
    expected = [
        (query.sentence[None], (1, dims.sentence)),
        (query.clip[None], (1, dims.vision)),
        (sentences, (2, dims.sentence)),
        (clips, (2, dims.vision)),
        (images, (2, dims.vision)),
        (sounds, (2, dims.audio)),
    ]
    for rows, shape in expected:
        assert rows.shape == shape
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(sentences[0], query.sentence, atol=1e-3)
    np.testing.assert_allclose(clips[0], query.clip, atol=1e-3)
    np.testing.assert_allclose(images[0], images[1], atol=1e-5)
    assert sentences[0] @ sentences[1] < 0.99
