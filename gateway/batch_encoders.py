"""The ensembles of a server as a batch job calls them: items in, vectors out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from ensembles.contracts import MAX_IMAGE_BATCH, MAX_IMAGE_BYTES, MAX_TEXT_BATCH, TextEncoder
from gateway.batch_plan import Item
from gateway.errors import InvalidRequest, TooLarge
from gateway.triton import Triton, served_bundle
from gateway.triton_wire import Role

CALL_TIMEOUT_S = 60.0

Send = Callable[[Sequence[Item]], Awaitable[FloatArray]]  # n items → (n, width)


@dataclass(frozen=True)
class Encoder:
    """One ensemble of one bundle, as a batch job uses it."""

    ensemble: str
    bundle: Bundle
    width: int
    max_batch: int
    send: Send


@asynccontextmanager
async def text_encoder(
    address: str, kind: TextEncoder = "sentence", role: Role = "passage"
) -> AsyncIterator[Encoder]:
    """Connect to the newest bundle's encoder of texts.

    Args:
        address: Triton's gRPC address, HOST:PORT.
        kind: `sentence` to compare texts with texts, `clip` with images, `sound_text` with sounds.
        role: what the texts are; only the sentence encoder tells queries and passages apart.

    Raises:
        Unavailable: no server answers there, or it serves no bundle.
        InvalidRequest: the bundle has no text encoder for sounds.
    """
    async with _connect(address) as (triton, bundle):

        async def sentence(items: Sequence[Item]) -> FloatArray:
            return await triton.embed_text(_texts(items), role, timeout_s=CALL_TIMEOUT_S)

        async def clip(items: Sequence[Item]) -> FloatArray:
            return await triton.embed_clip_text(_texts(items), timeout_s=CALL_TIMEOUT_S)

        async def sound_text(items: Sequence[Item]) -> FloatArray:
            return await triton.embed_sound_text(_texts(items), timeout_s=CALL_TIMEOUT_S)

        dims = bundle.dims
        if kind == "sound_text" and not dims.sound_text_tokens:
            raise InvalidRequest(
                "the server's bundle has no text encoder for sounds; serve a profile with CLAP, "
                "such as base-clap, or ask for sentence or clip"
            )
        encoders = {
            "sentence": Encoder("embed_text", bundle, dims.sentence, MAX_TEXT_BATCH, sentence),
            "clip": Encoder("embed_clip_text", bundle, dims.vision, MAX_TEXT_BATCH, clip),
            "sound_text": Encoder(
                "embed_sound_text", bundle, dims.audio, MAX_TEXT_BATCH, sound_text
            ),
        }
        yield encoders[kind]


@asynccontextmanager
async def image_encoder(address: str) -> AsyncIterator[Encoder]:
    """Connect to the newest bundle's encoder of JPEG, PNG and WebP files.

    Raises:
        Unavailable: no server answers there, or it serves no bundle.
    """
    async with _connect(address) as (triton, bundle):

        async def images(items: Sequence[Item]) -> FloatArray:
            encoded = await asyncio.to_thread(lambda: [read_image(item.content) for item in items])
            return await triton.embed_images(encoded, timeout_s=CALL_TIMEOUT_S)

        yield Encoder("embed_images", bundle, bundle.dims.vision, MAX_IMAGE_BATCH, images)


@asynccontextmanager
async def _connect(address: str) -> AsyncIterator[tuple[Triton, Bundle]]:
    bundle = await served_bundle(address, timeout_s=CALL_TIMEOUT_S)
    triton = Triton(address, bundle)
    try:
        yield triton, bundle
    finally:
        await triton.close()


def _texts(items: Sequence[Item]) -> list[str]:
    return [str(item.content) for item in items]


def read_image(path: str | Path) -> bytes:
    """Read an image's bytes; refuses a file that cannot be read, is empty, or is too large."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"cannot be read: {error.strerror}") from error
    if not data:
        raise InvalidRequest("the file is empty")
    if len(data) > MAX_IMAGE_BYTES:
        raise TooLarge(f"has over {MAX_IMAGE_BYTES:,} bytes, which is the most")
    return data
