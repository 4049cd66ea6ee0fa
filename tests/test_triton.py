"""The door to Triton: what is sent, what is refused before, and which error becomes which."""

import asyncio

import grpc
import grpc.aio
import numpy as np
import pytest

from ensembles.build import MINI
from ensembles.bundle import Bundle, Capabilities
from ensembles.contracts import models
from ensembles.graphs import ensembles
from gateway.errors import (
    DeadlineExceeded,
    InvalidRequest,
    MediaRefused,
    Overloaded,
    Unavailable,
)
from gateway.triton import Triton
from gateway.triton_wire import build_request, translate

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
        (grpc.StatusCode.INTERNAL, "stub died", Unavailable),
    ],
)
def test_every_error_of_the_server_becomes_one_of_ours(code, details, expected):
    assert type(translate(rpc_error(code, details))) is expected


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
