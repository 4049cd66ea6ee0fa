"""The vectors of one query: each is made once, whatever legs wait for it."""

import asyncio
import time
from collections.abc import Collection, Coroutine
from typing import Literal, TypeAlias

import numpy as np

from ensembles.arrays import FloatArray
from ensembles.contracts import AUDIO_WINDOW_SAMPLES
from gateway.doors import Doors
from gateway.search.query import Query
from ingest.decode import decode_sound

Source = Literal["sentence", "clip", "sound_text", "image", "sound"]  # what a vector is made by
Vectors: TypeAlias = dict[Source, FloatArray]

WORDS: tuple[Source, ...] = ("sentence", "clip")


class QueryVectors:
    """The vectors of a query, on their way from Triton since this was made.

    Args:
        query: what is asked for.
        sources: the vectors that are needed.
        doors: the way to Triton, and the vectors of earlier queries.
        timeout_s: how long Triton may take.
    """

    def __init__(
        self, query: Query, sources: Collection[Source], doors: Doors, timeout_s: float
    ) -> None:
        self.ready_at = time.perf_counter()  # when the last vector was there, or had failed
        self._tasks: dict[Source, asyncio.Task[Vectors]] = {}
        words = [source for source in WORDS if source in sources]
        if words:
            task = self._task(_embed_words(query.text, words, doors, timeout_s))
            self._tasks |= dict.fromkeys(words, task)
        if "sound_text" in sources:
            sound_text = _embed_words(query.text, ["sound_text"], doors, timeout_s)
            self._tasks["sound_text"] = self._task(sound_text)
        if "image" in sources:
            self._tasks["image"] = self._task(_embed_image(query.image, doors, timeout_s))
        if "sound" in sources:
            self._tasks["sound"] = self._task(_embed_sound(query.audio, doors, timeout_s))

    async def vector(self, source: Source) -> FloatArray:
        """Return one vector when it is there, unit length, float32; raises what Triton does."""
        return (await asyncio.shield(self._tasks[source]))[source]

    async def end(self) -> None:
        """Give up the vectors that are not there yet."""
        tasks = set(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _task(self, work: Coroutine[None, None, Vectors]) -> asyncio.Task[Vectors]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._note)
        return task

    def _note(self, _: asyncio.Task[Vectors]) -> None:
        self.ready_at = time.perf_counter()


async def _embed_words(
    text: str, sources: Collection[Source], doors: Doors, timeout_s: float
) -> Vectors:
    """Return the text's vectors; Triton is asked only for those of which none is remembered."""
    kept = {source: doors.embeddings.get((doors.bundle.id, source, text)) for source in sources}
    vectors = {source: vector for source, vector in kept.items() if vector is not None}
    missing = [source for source in sources if source not in vectors]
    if missing:
        fresh = await _ask_triton(text, missing, doors, timeout_s)
        for source, vector in fresh.items():
            doors.embeddings.put((doors.bundle.id, source, text), vector)
        vectors |= fresh
    return vectors


async def _ask_triton(
    text: str, sources: Collection[Source], doors: Doors, timeout_s: float
) -> Vectors:
    if "sound_text" in sources:  # an encoder of its own, asked beside the others
        rows = await doors.triton.embed_sound_text([text], timeout_s=timeout_s)  # (1, audio)
        return {"sound_text": rows[0]}
    if len(sources) == len(WORDS):
        both = await doors.triton.embed_query(text, timeout_s=timeout_s)
        return {"sentence": both.sentence, "clip": both.clip}
    if "clip" in sources:
        return {"clip": (await doors.triton.embed_clip_text([text], timeout_s=timeout_s))[0]}
    rows = await doors.triton.embed_text([text], "query", timeout_s=timeout_s)  # (1, sentence)
    return {"sentence": rows[0]}


async def _embed_image(image: bytes, doors: Doors, timeout_s: float) -> Vectors:
    return {"image": (await doors.triton.embed_images([image], timeout_s=timeout_s))[0]}


async def _embed_sound(audio: bytes, doors: Doors, timeout_s: float) -> Vectors:
    """Embed a sound as ingest embeds a segment's: window by window, then the unit mean."""
    pcm = await doors.disk.call(decode_sound, audio)  # (samples,) 16 kHz mono
    rows = await doors.triton.embed_audio(windows_of(pcm), timeout_s=timeout_s)  # (n, audio)
    mean = rows.mean(axis=0)
    return {"sound": mean / np.linalg.norm(mean)}


def windows_of(pcm: FloatArray) -> FloatArray:
    """Cut sound, shape (samples,), into windows (n, AUDIO_WINDOW_SAMPLES), the last one padded.

    What is left over after whole windows counts only where it is the half of one at least.
    """
    left_over = len(pcm) % AUDIO_WINDOW_SAMPLES
    if len(pcm) > AUDIO_WINDOW_SAMPLES and left_over < AUDIO_WINDOW_SAMPLES / 2:
        pcm = pcm[: len(pcm) - left_over]
    missing = -len(pcm) % AUDIO_WINDOW_SAMPLES
    return np.pad(pcm, (0, missing)).reshape(-1, AUDIO_WINDOW_SAMPLES)
