"""The door to Triton: what is sent, what is refused before, and which error becomes which."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from ensembles.build import MINI
from ensembles.bundle import Bundle, Capabilities
from ensembles.contracts import models
from ensembles.graphs import ensembles
from gateway.errors import (
    DeadlineExceeded,
    InvalidRequest,
    MediaRefused,
    ModelFailed,
    Overloaded,
    TooLarge,
    Unavailable,
)
from gateway.triton import Triton
from gateway.triton_wire import build_request, read_reply, translate

CONTRACTS = {n: g.contract for n, g in ensembles(models(MINI), MINI).items()}
BUNDLE = Bundle("mini", 1, MINI, Capabilities(False, False, False), {})


def rpc_error(code: grpc.StatusCode, details: str = "") -> grpc.aio.AioRpcError:
    metadata = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, metadata, metadata, details)


def test_texts_are_packed_with_their_lengths():
    texts = np.array([[b"ab"], [b""]], dtype=np.object_)
    roles = np.array([[b"query"], [b"query"]], dtype=np.object_)
    request = build_request(CONTRACTS["embed_text"], {"TEXT": texts, "ROLE": roles})
    assert request.raw_input_contents[0] == b"\x02\0\0\0ab\0\0\0\0"
    assert list(request.inputs[0].shape) == [2, 1]


@pytest.mark.parametrize(
    "pcm",
    [
        np.zeros((1, 100), np.float64),
        np.zeros(100, np.float32),
        np.zeros((1, 0), np.float32),
        np.zeros((1, 1, 100), np.float32),
    ],
)
def test_an_array_that_breaks_the_contract_is_refused_with_both_sides_named(pcm):
    with pytest.raises(InvalidRequest, match=r"embed_audio: AUDIO is .* expected float32"):
        build_request(CONTRACTS["embed_audio"], {"AUDIO": pcm})


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", DeadlineExceeded),
        (grpc.StatusCode.INVALID_ARGUMENT, "TEXT has 9000 bytes", InvalidRequest),
        (grpc.StatusCode.INVALID_ARGUMENT, "[media:not_media] no", MediaRefused),
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", Overloaded),
        (grpc.StatusCode.NOT_FOUND, "unknown model", Unavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many pings", Overloaded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Sent message larger than max (9 vs. 4)", TooLarge),
    ],
)
def test_every_error_of_the_server_becomes_one_of_ours(code, details, expected):
    assert type(translate(rpc_error(code, details))) is expected


@pytest.mark.parametrize("contents", [[b""], [b"\0" * 7], []])
def test_a_reply_that_lacks_its_contents_is_an_unavailable_server(contents: list[bytes]) -> None:
    reply = pb.ModelInferResponse(raw_output_contents=contents)
    reply.outputs.add(name="EMBEDDING", datatype="FP32", shape=(1, 384))
    with pytest.raises(Unavailable, match="damaged reply"):
        read_reply(reply)


NAN = "ValueError: the encoder returned NaN or infinity; check its weights and input"
ESCAPED = "Failed to process the request(s) for model 'sentence_0_0', message: "
AT = "\n\nAt:\n  /srv/models/sentence/1/model.py(6): execute\n"
ONNX = "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code while running Gather node"


@pytest.mark.parametrize(
    ("details", "told"),
    [
        (NAN, "the encoder returned NaN or infinity; check its weights and input"),
        (f"in ensemble 'embed_audio_v1', {NAN}", NAN.removeprefix("ValueError: ")),
        (f"in ensemble 'embed_text_v1', InvalidArgument: {ONNX}", "InvalidArgument"),
        (f"Fail: {ONNX}", "Fail"),
        (f"{ESCAPED}IndexError: list index out of range{AT}", "IndexError"),
        (f"in ensemble 'fuse_v1', {ESCAPED}ValueError: no room for 9{AT}", "no room for 9"),
    ],
)
def test_a_model_that_fails_on_an_input_is_not_an_unavailable_server(details, told):
    failed = translate(rpc_error(grpc.StatusCode.INTERNAL, details))
    assert type(failed) is ModelFailed
    assert failed.message == f"a model failed on this input: {told}"


@pytest.mark.parametrize(
    "details",
    [
        "Stub process 'wav2vec2_0_0' is not healthy.",
        "in ensemble 'embed_audio_v1', Stub process 'wav2vec2_0_0' is not healthy.",
        f"{ESCAPED}Stub process 'sentence_0_0' is not healthy.",
        f"{ESCAPED}MemoryError: <EMPTY MESSAGE>{AT}",
        f"{ESCAPED}OSError: [Errno 28] No space left on device{AT}",
        f"{ESCAPED}Unavailable: the process that decodes was lost{AT}",
        "RuntimeException: [ONNXRuntimeError] : 6 : Failed to allocate memory for 9 bytes",
        "Fail: [ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory",
        "something that Triton says in its next version",
        "",
    ],
)
def test_what_may_pass_is_an_unavailable_server(details):
    assert type(translate(rpc_error(grpc.StatusCode.INTERNAL, details))) is Unavailable


def test_addresses_and_folders_of_the_server_go_to_the_log_alone(caplog):
    secret = "/srv/models/sentence/1/model.py(6)"
    address = "failed to connect to ipv4:10.0.0.7:8001"
    errors = [
        translate(rpc_error(grpc.StatusCode.INTERNAL, f"{ESCAPED}IndexError: out of range{AT}")),
        translate(rpc_error(grpc.StatusCode.UNAVAILABLE, address)),
    ]
    assert not any(word in error.message for error in errors for word in (secret, "10.0.0.7"))
    assert secret in caplog.text
    assert address in caplog.text


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_no_status_code_is_left_unmapped(code):
    assert translate(rpc_error(code)).status in {400, 422, 429, 503, 504}


def test_a_refusal_of_media_keeps_its_reason_and_message():
    details = "in ensemble 'embed_images_v1', [media:undecodable] the image is\nbroken"
    refused = translate(rpc_error(grpc.StatusCode.INVALID_ARGUMENT, details))
    assert isinstance(refused, MediaRefused)
    assert (refused.reason, refused.message) == ("undecodable", "the image is\nbroken")


async def refused_call() -> None:
    triton = Triton("127.0.0.1:9", BUNDLE)  # the discard port: nothing listens
    try:
        assert not await triton.ready(timeout_s=0.5)
        await triton.embed_query("hello", timeout_s=0.5)
    finally:
        await triton.close()


def test_a_server_that_is_not_there_is_unavailable_and_nothing_hangs():
    with pytest.raises(Unavailable):
        asyncio.run(refused_call())


class SlowTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers a call when it is let; tells whether one was cancelled."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.came = self.answered = 0

    async def ModelInfer(self, *_: object) -> Any:  # noqa: N802
        self.came += 1
        await self.may_answer.wait()
        self.answered += 1  # not where it was cancelled
        reply = pb.ModelInferResponse()
        for name, width in (("CLIP_EMBEDDING", MINI.vision), ("SENTENCE_EMBEDDING", MINI.sentence)):
            reply.outputs.add(name=name, datatype="FP32", shape=(1, width))
            reply.raw_output_contents.append(bytes(4 * width))
        return reply


@pytest.fixture
async def slow() -> AsyncIterator[tuple[SlowTriton, Triton]]:
    service, server = SlowTriton(), grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    triton = Triton(f"127.0.0.1:{port}", BUNDLE)
    yield service, triton
    service.may_answer.set()
    await triton.close()
    await server.stop(None)


@pytest.mark.anyio
async def test_a_call_that_is_given_up_is_not_cancelled_at_the_server(
    slow: tuple[SlowTriton, Triton],
) -> None:
    service, triton = slow
    with pytest.raises(DeadlineExceeded):
        await triton.embed_query("late", timeout_s=0.05)
    left = asyncio.create_task(triton.embed_query("left", timeout_s=30))
    while service.came < 2:  # noqa: ASYNC110 (the server has no event of ours to wait for)
        await asyncio.sleep(0.01)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    gc.collect()  # a call that is not referred to any more is cancelled too
    service.may_answer.set()
    await triton.close()
    assert service.answered == 2


@pytest.mark.anyio
async def test_a_server_that_stands_still_is_sent_few_calls_and_then_used_again(
    slow: tuple[SlowTriton, Triton],
) -> None:
    service, triton = slow
    told = []
    for _ in range(20):
        with pytest.raises(Unavailable) as caught:
            await triton.embed_query("words", timeout_s=0.06)
        told.append(type(caught.value))
    assert told == [DeadlineExceeded] * 2 + [Unavailable] * 18
    assert service.came == 2
    service.may_answer.set()
    while service.answered < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert (await triton.embed_query("words", timeout_s=30)).clip.shape == (MINI.vision,)
