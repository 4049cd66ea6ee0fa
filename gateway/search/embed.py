"""The vectors of one query: each is made once, whatever legs wait for it."""

import asyncio
import time
from collections.abc import Collection, Coroutine, Mapping
from typing import Literal, TypeAlias

import numpy as np

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from ensembles.contracts import AUDIO_WINDOW_SAMPLES
from gateway.doors import Doors
from gateway.errors import DeadlineExceeded, ModelFailed
from gateway.schemas import LegName
from gateway.search.clip import embed_clip
from gateway.search.plan import Plan, Source
from gateway.search.query import Query
from ingest.decode import decode_sound

Vectors: TypeAlias = Mapping[str, FloatArray]  # by source, by leg (a clip's), or by segment id
Role = Literal["asked", "away"]  # which of a query's two texts

TOGETHER: tuple[Source, ...] = ("sentence", "clip")  # one call of Triton makes both
MAX_VECTOR_ERROR = 0.01  # how far from unit length a model's vector may be


class QueryVectors:
    """The vectors of a query, on their way since this was made.

    Args:
        query: what is asked for.
        plan: what its legs search with.
        doors: the way to Triton and to the index, and the vectors of earlier queries.
        timeout_s: how long they may take.
    """

    def __init__(self, query: Query, plan: Plan, doors: Doors, timeout_s: float) -> None:
        self.ready_at = time.perf_counter()  # when the last vector was there, or had failed
        self._query = query
        self._doors = doors
        self._timeout_s = timeout_s
        self._tasks: dict[tuple[str, str], asyncio.Task[Vectors]] = {}
        asked = {source for aim in plan.values() for source in aim.sources}
        self._embed_text("asked", query.text, asked)
        self._embed_text("away", query.away, {aim.away for aim in plan.values() if aim.away})
        if "image" in asked:
            self._begin(("asked", "image"), _embed_image(query.image, doors, timeout_s))
        if "sound" in asked:
            self._begin(("asked", "sound"), _embed_sound(query.audio, doors, timeout_s))
        if "video" in asked:
            self._begin(("asked", "video"), _embed_video(query.clip, doors, timeout_s))
        for leg in (leg for leg, aim in plan.items() if "like" in aim.sources):
            self._begin(("like", leg), _stored(leg, query.like, doors, timeout_s))

    async def of(self, leg: LegName, source: Source) -> tuple[FloatArray, ...]:
        """Return the vector of an input, or nothing: a clip may be silent, a segment as well.

        The vector has unit length and is float32; raises what Triton and Milvus do.
        """
        if source == "like":
            stored = await asyncio.shield(self._tasks["like", leg])
            return tuple(stored.values())
        if source == "video":
            seen = await asyncio.shield(self._tasks["asked", "video"])
            return (seen[leg],) if leg in seen else ()
        return (await self._made("asked", source),)

    async def away(self, source: Source) -> FloatArray:
        """Return the vector of the text that is taken away, by one of the encoders of texts."""
        return await self._made("away", source)

    def sentence(self) -> FloatArray | None:
        """Return the sentence embedding of the query's text if it is there by now."""
        task = self._tasks.get(("asked", "sentence"))
        if task is None or not task.done() or task.cancelled() or task.exception():
            return None
        return task.result()["sentence"]

    async def _made(self, role: Role, source: Source) -> FloatArray:
        return (await asyncio.shield(self._tasks[role, source]))[source]

    async def end(self) -> None:
        """Give up the vectors that are not there yet."""
        tasks = set(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _embed_text(self, role: Role, text: str, sources: Collection[Source]) -> None:
        together = [source for source in TOGETHER if source in sources]
        if together:
            task = self._begin(
                (role, together[0]), _embed_words(text, together, self._doors, self._timeout_s)
            )
            self._tasks |= dict.fromkeys(((role, source) for source in together), task)
        if "sound_text" in sources:
            sound_text = _embed_words(text, ["sound_text"], self._doors, self._timeout_s)
            self._begin((role, "sound_text"), sound_text)

    def _begin(
        self, key: tuple[str, str], work: Coroutine[None, None, Vectors]
    ) -> asyncio.Task[Vectors]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._note)
        self._tasks[key] = task
        return task

    def _note(self, _: asyncio.Task[Vectors]) -> None:
        self.ready_at = time.perf_counter()


async def _embed_words(
    text: str, sources: Collection[Source], doors: Doors, timeout_s: float
) -> Vectors:
    """Return the text's vectors; Triton is asked only for those of which none is remembered."""
    kept = {source: doors.embeddings.get((doors.bundle.id, source, text)) for source in sources}
    vectors: dict[str, FloatArray] = {s: vector for s, vector in kept.items() if vector is not None}
    missing = [source for source in sources if source not in vectors]
    if missing:
        fresh = await _ask_once(text, missing, doors, timeout_s)
        for source, vector in fresh.items():
            vectors[source] = checked(vector, source, doors.bundle)
            doors.embeddings.put((doors.bundle.id, source, text), vector)
    return vectors


async def _ask_once(
    text: str, sources: Collection[Source], doors: Doors, timeout_s: float
) -> Vectors:
    """Ask Triton, or wait for whoever asks it for the same now."""
    until = time.monotonic() + timeout_s
    key = (doors.bundle.id, *sources, text)

    async def ask() -> Vectors:
        return await _ask_triton(text, sources, doors, until - time.monotonic())

    try:
        return await doors.embeddings.in_flight.call(key, ask)
    except DeadlineExceeded:
        if until <= time.monotonic():
            raise
        return await ask()  # the other's deadline was shorter than this one's


async def _ask_triton(
    text: str, sources: Collection[Source], doors: Doors, timeout_s: float
) -> Vectors:
    if "sound_text" in sources:  # an encoder of its own, asked beside the others
        rows = await doors.triton.embed_sound_text([text], timeout_s=timeout_s)  # (1, audio)
        return {"sound_text": rows[0]}
    if len(sources) == len(TOGETHER):
        both = await doors.triton.embed_query(text, timeout_s=timeout_s)
        return {"sentence": both.sentence, "clip": both.clip}
    if "clip" in sources:
        return {"clip": (await doors.triton.embed_clip_text([text], timeout_s=timeout_s))[0]}
    rows = await doors.triton.embed_text([text], "query", timeout_s=timeout_s)  # (1, sentence)
    return {"sentence": rows[0]}


async def _embed_image(image: bytes, doors: Doors, timeout_s: float) -> Vectors:
    rows = await doors.triton.embed_images([image], timeout_s=timeout_s)  # (1, vision)
    return {"image": checked(rows[0], "image", doors.bundle)}


async def _embed_sound(audio: bytes, doors: Doors, timeout_s: float) -> Vectors:
    """Embed a sound as ingest embeds a segment's: window by window, then the unit mean."""
    pcm = await doors.disk.call(decode_sound, audio)  # (samples,) 16 kHz mono
    rows = await doors.triton.embed_audio(windows_of(pcm), timeout_s=timeout_s)  # (n, audio)
    mean = rows.mean(axis=0)
    with np.errstate(invalid="ignore"):  # of a mean of zeros comes NaN, which is refused
        unit = mean / np.linalg.norm(mean)
    return {"sound": checked(unit, "sound", doors.bundle)}


async def _embed_video(clip: bytes, doors: Doors, timeout_s: float) -> Vectors:
    vectors = await embed_clip(clip, doors, timeout_s)
    return {leg: checked(vector, leg, doors.bundle) for leg, vector in vectors.items()}


async def _stored(leg: LegName, segment_id: str, doors: Doors, timeout_s: float) -> Vectors:
    """Return the vector that the index holds of a segment; none where it has none."""
    return await doors.milvus.stored.vectors(doors.bundle, leg, [segment_id], timeout_s=timeout_s)


def checked(vector: FloatArray, source: str, bundle: Bundle) -> FloatArray:
    """Return a model's vector if it can be searched with.

    Raises:
        ModelFailed: it is not as wide as the bundle says, or has NaN, infinity, or another length
            than 1.
    """
    dims = bundle.dims
    heard, made = dims.audio, {"sentence": dims.sentence, "fused": dims.fused}
    widths = made | {"sound": heard, "sound_text": heard}
    shape = (widths.get(source, dims.vision),)
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if vector.shape != shape or not abs(length - 1) <= MAX_VECTOR_ERROR:  # so are NaN and infinity
        raise ModelFailed(
            "triton",
            f"a model of {bundle.id} made a vector of shape {vector.shape} and length {length:g} "
            f"for {source}; {shape} and 1 were expected: export the bundle again",
        )
    return vector


def windows_of(pcm: FloatArray) -> FloatArray:
    """Cut sound, shape (samples,), into windows (n, AUDIO_WINDOW_SAMPLES), the last one padded.

    What is left over after whole windows counts only where it is the half of one at least.
    """
    left_over = len(pcm) % AUDIO_WINDOW_SAMPLES
    if len(pcm) > AUDIO_WINDOW_SAMPLES and left_over < AUDIO_WINDOW_SAMPLES / 2:
        pcm = pcm[: len(pcm) - left_over]
    missing = -len(pcm) % AUDIO_WINDOW_SAMPLES
    return np.pad(pcm, (0, missing)).reshape(-1, AUDIO_WINDOW_SAMPLES)
