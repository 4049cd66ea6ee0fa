"""The door to Triton: nothing else speaks to it. KServe v2 over gRPC, asynchronous.

Messages are built straight from the protocol's generated classes: a text costs one small message
each way. Every call names the bundle's own ensembles (`embed_text_v1`), so an export can never
change the encoder under a live index.

A call that was sent is never cancelled, neither by its deadline nor by whoever gives it up: a
cancellation that meets its answer crashes Triton 2.51
(https://github.com/triton-inference-server/server/issues/7368). It runs to its end unheard, and
`gateway.congestion` keeps others back until Triton keeps up again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from ensembles.arrays import FloatArray, UInt8Array
from ensembles.build import bundle_suffix
from ensembles.bundle import Bundle, Capabilities
from ensembles.chunk import ChunkEmbeddings, ChunkInput, SegmentTokens
from ensembles.contracts import TOKEN_BUCKETS, Dimensions, models
from ensembles.graphs import ensembles
from gateway.congestion import CallLimit
from gateway.errors import DeadlineExceeded
from gateway.triton_wire import (
    Array,
    Role,
    build_request,
    read_reply,
    strings,
    text_inputs,
    translate,
)

MAX_MESSAGE_BYTES = 128 * 1024 * 1024
RECONNECT_MIN_MS = 100
RECONNECT_MAX_MS = 1_000
FINISH_S = 30.0  # that a call may run on after its deadline, unheard
CLOSE_S = 2.0  # for the calls that run when the connection is closed

CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MIN_MS),
    ("grpc.min_reconnect_backoff_ms", RECONNECT_MIN_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
)


@dataclass(frozen=True)
class QueryEmbeddings:
    """The embeddings of one text that every bundle has."""

    clip: FloatArray  # (vision,)
    sentence: FloatArray  # (sentence,)


class Triton:
    """One bundle's ensembles on one server.

    Every method raises `Unavailable` where the server is not reachable, `DeadlineExceeded` after
    `timeout_s`, `InvalidRequest` where the input breaks the contract, `MediaRefused` where bytes
    cannot be decoded, `TooLarge` where a message is over gRPC's limit, `Overloaded` where a model's
    queue is full, and `ModelFailed` where a model fails on the input, as it would again.
    """

    def __init__(self, address: str, bundle: Bundle) -> None:
        self._bundle = bundle
        contracts = models(bundle.dims)
        graphs = ensembles(contracts, bundle.dims)
        self._contracts = {name: graph.contract for name, graph in graphs.items()}
        self._models = contracts
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._running: set[grpc.aio.Call] = set()  # one that is not referred to is cancelled
        self._limits: defaultdict[str, CallLimit] = defaultdict(lambda: CallLimit("triton"))

    async def embed_query(self, text: str, *, timeout_s: float) -> QueryEmbeddings:
        """Embed one query for CLIP's text tower and for the sentence encoder.

        Triton leaves out an ensemble's steps whose outputs are not asked for, so a bundle's text
        encoder for sounds does not run here: `embed_sound_text` does it, and delays nobody else.
        """
        inputs = text_inputs([text], "query")
        wanted = ("CLIP_EMBEDDING", "SENTENCE_EMBEDDING")
        outputs = await self._infer("embed_query", inputs, timeout_s, wanted)
        return QueryEmbeddings(
            clip=outputs["CLIP_EMBEDDING"][0], sentence=outputs["SENTENCE_EMBEDDING"][0]
        )

    async def embed_text(self, texts: Sequence[str], role: Role, *, timeout_s: float) -> FloatArray:
        """Embed 1 … MAX_TEXT_BATCH texts with the sentence encoder: (n, sentence)."""
        outputs = await self._infer("embed_text", text_inputs(texts, role), timeout_s)
        return outputs["SENTENCE_EMBEDDING"]

    async def embed_clip_text(self, texts: Sequence[str], *, timeout_s: float) -> FloatArray:
        """Embed 1 … MAX_TEXT_BATCH texts with CLIP's text tower: (n, vision)."""
        outputs = await self._infer("embed_clip_text", text_inputs(texts, "query"), timeout_s)
        return outputs["CLIP_EMBEDDING"]

    async def embed_sound_text(self, texts: Sequence[str], *, timeout_s: float) -> FloatArray:
        """Embed 1 … MAX_TEXT_BATCH texts into the space of the sounds: (n, audio).

        Only bundles whose sounds have a text encoder of their own serve this.
        """
        outputs = await self._infer("embed_sound_text", text_inputs(texts, "query"), timeout_s)
        return outputs["SOUND_TEXT_EMBEDDING"]

    async def embed_images(self, images: Sequence[bytes], *, timeout_s: float) -> FloatArray:
        """Embed 1 … MAX_IMAGE_BATCH JPEG, PNG or WebP images: (n, vision)."""
        longest = max(len(image) for image in images)
        encoded = np.zeros((len(images), longest), dtype=np.uint8)
        for row, image in zip(encoded, images, strict=True):
            row[: len(image)] = np.frombuffer(image, dtype=np.uint8)
        outputs = await self._infer("embed_images", {"ENCODED": encoded}, timeout_s)
        return outputs["IMAGE_EMBEDDING"]

    async def embed_frames(self, frames: UInt8Array, *, timeout_s: float) -> FloatArray:
        """Embed 1 … MAX_CHUNK_FRAMES decoded frames, RGB (n, height, width, 3): (n, vision)."""
        outputs = await self._infer("embed_frames", {"FRAMES": frames}, timeout_s)
        return outputs["FRAME_EMBEDDINGS"]

    async def embed_audio(self, windows: FloatArray, *, timeout_s: float) -> FloatArray:
        """Embed windows of 16 kHz mono sound, shape (n, samples): (n, audio)."""
        outputs = await self._infer("embed_audio", {"AUDIO": windows}, timeout_s)
        return outputs["AUDIO_EMBEDDING"]

    async def embed_video(self, chunk: ChunkInput, *, timeout_s: float) -> ChunkEmbeddings:
        """Embed the frames, sounds and texts of one chunk, and fuse its segments."""
        inputs: dict[str, Array] = {
            "CHUNK": np.frombuffer(chunk.data, dtype=np.uint8),
            "FRAME_INDICES": chunk.frame_indices,
            "FRAME_SEGMENTS": chunk.frame_segments,
            "FRAME_WEIGHTS": chunk.frame_weights,
            "AUDIO_STARTS": chunk.audio_starts_s,
            "AUDIO_SEGMENTS": chunk.audio_segments,
            "AUDIO_WEIGHTS": chunk.audio_weights,
            "TRANSCRIPTS": strings(chunk.transcripts),
            "ROLES": strings(["passage"] * len(chunk.transcripts)),
            "TRANSCRIPT_WEIGHTS": chunk.transcript_weights,
        }
        outputs = await self._infer("embed_video", inputs, timeout_s)
        return ChunkEmbeddings(
            frames=outputs["FRAME_EMBEDDINGS"],
            audio=outputs["AUDIO_EMBEDDINGS"],
            text=outputs["TEXT_EMBEDDINGS"],
            fused=outputs["FUSED_EMBEDDINGS"],
        )

    async def fuse(self, tokens: SegmentTokens, *, timeout_s: float) -> FloatArray:
        """Fuse the stored tokens of 1 … MAX_CHUNK_SEGMENTS segments: (segments, fused)."""
        inputs = {
            "FRAME_TOKENS": tokens.frames,
            "FRAME_TOKEN_WEIGHTS": tokens.frame_weights,
            "AUDIO_TOKENS": tokens.audio,
            "AUDIO_TOKEN_WEIGHTS": tokens.audio_weights,
            "TEXT_TOKENS": tokens.text,
            "TEXT_TOKEN_WEIGHTS": tokens.text_weights,
        }
        outputs = await self._infer("fuse", inputs, timeout_s)
        return outputs["FUSED_EMBEDDING"]

    async def run_model(
        self, model: str, inputs: Mapping[str, Array], *, timeout_s: float
    ) -> dict[str, FloatArray]:
        """Run one encoder of the bundle by itself, for measurements: its outputs by name."""
        request = build_request(self._models[model], inputs)
        request.model_name = model
        return await self._call(request, timeout_s)

    async def ready(self, *, timeout_s: float) -> bool:
        """Tell whether the bundle's ensembles can be called."""
        request = pb.ModelReadyRequest(name=self._name("embed_text"), version=self._version)
        try:
            reply = await self._stub.ModelReady(request, timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return False
        return bool(reply.ready)

    async def close(self) -> None:
        """Close the connection; calls that run have `CLOSE_S` to end."""
        await self._channel.close(CLOSE_S)

    @property
    def _version(self) -> str:
        return str(self._bundle.version)

    def _name(self, ensemble: str) -> str:
        return ensemble + bundle_suffix(self._bundle.version)

    async def _infer(
        self,
        ensemble: str,
        inputs: Mapping[str, Array],
        timeout_s: float,
        outputs: Sequence[str] = (),
    ) -> dict[str, FloatArray]:
        """Call an ensemble; without `outputs` it returns all that it has."""
        request = build_request(self._contracts[ensemble], inputs)
        for name in outputs:
            request.outputs.add(name=name)
        request.model_name = self._name(ensemble)
        return await self._call(request, timeout_s)

    async def _call(self, request: pb.ModelInferRequest, timeout_s: float) -> dict[str, FloatArray]:
        request.model_version = self._version
        limit = self._limits[request.model_name]
        begun = await limit.begin(timeout_s)
        ended = asyncio.get_running_loop().create_future()
        call = self._start(request, begun.allowed_s + FINISH_S, limit, ended)
        timer = asyncio.get_running_loop().call_later(begun.allowed_s, _expire, ended)
        try:
            await ended  # a future and a timer: 0.05 ms less than an event within asyncio.timeout
            reply = await call
            limit.answered()
        except TimeoutError as error:
            raise DeadlineExceeded("triton", "Triton answered too late") from error
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error
        finally:
            timer.cancel()
            if not call.done():
                limit.given_up(begun)
        return read_reply(reply)

    def _start(
        self,
        request: pb.ModelInferRequest,
        timeout_s: float,
        limit: CallLimit,
        ended: "asyncio.Future[None]",
    ) -> "grpc.aio.UnaryUnaryCall[pb.ModelInferRequest, pb.ModelInferResponse]":
        """Send a call that the limit has counted; `ended` is set when it has ended."""
        call = self._stub.ModelInfer(request, timeout=timeout_s)
        self._running.add(call)

        def end(_: object) -> None:
            self._running.discard(call)
            limit.end()
            if not ended.done():
                ended.set_result(None)

        call.add_done_callback(end)
        return call


def _expire(ended: "asyncio.Future[None]") -> None:
    if not ended.done():
        ended.set_exception(TimeoutError())


UNKNOWN_PROFILE = "bundle"  # of a server that is known by its address alone: ids as `bundle-1`


async def served_bundle(address: str, *, timeout_s: float) -> Bundle:
    """Describe the newest bundle that a server serves, by the metadata of its models.

    The server tells versions and sizes; it tells neither the profile's name, nor its capabilities
    and calibration, nor how many tokens its text encoders take.

    Raises:
        Unavailable: the server is not reachable or serves no bundle.
        DeadlineExceeded: it does not answer in time.
    """
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        async def describe(name: str) -> pb.ModelMetadataResponse:
            try:
                request = pb.ModelMetadataRequest(name=name)
                return await stub.ModelMetadata(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                raise translate(error) from error

        query = await describe("embed_query")
        audio, fuse, vision = [await describe(n) for n in ("embed_audio", "fuse", "clip_vision")]
    widths = {o.name: o.shape[-1] for reply in (query, audio, fuse) for o in reply.outputs}
    dims = Dimensions(
        vision=widths["CLIP_EMBEDDING"],
        sentence=widths["SENTENCE_EMBEDDING"],
        audio=widths["AUDIO_EMBEDDING"],
        fused=widths["FUSED_EMBEDDING"],
        image_size_px=vision.inputs[0].shape[-1],
        clip_tokens=TOKEN_BUCKETS[-1],
        sentence_tokens=TOKEN_BUCKETS[-1],
        sound_text_tokens=TOKEN_BUCKETS[-1] if "SOUND_TEXT_EMBEDDING" in widths else 0,
    )
    unknown = Capabilities(words_to_pixels=False, words_to_sounds=False, fusion_trained=False)
    return Bundle(UNKNOWN_PROFILE, int(query.versions[-1]), dims, unknown, calibration={})
