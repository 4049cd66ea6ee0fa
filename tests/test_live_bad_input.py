"""What a hostile gRPC client sends to the real server, message by message, without any library.

Each is refused in words, nothing is answered in part, and after each the server answers as before.
"""

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from ensembles.bundle import list_bundles
from ensembles.contracts import MAX_IMAGE_BYTES
from gateway.errors import ModelFailed
from gateway.triton import Triton
from tests.media import image_bytes

pytestmark = pytest.mark.live

TIMEOUT_S = 60
INVALID, INTERNAL = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL
METHOD = "/inference.GRPCInferenceService/ModelInfer"
PNG = image_bytes("png")


def pack(values):
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def message(model, *tensors):
    """A request, whatever it says: each tensor a name, a dtype, a shape and bytes."""
    request = pb.ModelInferRequest(model_name=model)
    for name, dtype, shape, raw in tensors:
        request.inputs.add(name=name, datatype=dtype, shape=shape)
        request.raw_input_contents.append(raw)
    return request


def texts(values, model="embed_text"):
    shape = [len(values), 1]
    roles = ("ROLE", "BYTES", shape, pack([b"query"] * len(values)))
    return message(model, ("TEXT", "BYTES", shape, pack(values)), roles)


def text(*tensor):
    """A text that is odd in one way, beside a good role."""
    return message("embed_text", ("TEXT", *tensor), ("ROLE", "BYTES", [1, 1], pack([b"query"])))


def audio(dtype, shape, raw):
    return message("embed_audio", ("AUDIO", dtype, shape, raw))


def images(shape, raw, dtype="UINT8"):
    return message("embed_images", ("ENCODED", dtype, shape, raw))


def ids(*values, mask=8):
    raw = np.array(values, np.int64).tobytes()
    return message(
        "sentence",
        ("SENTENCE_IDS", "INT64", [1, len(values)], raw),
        ("SENTENCE_MASK", "INT64", [1, mask], np.ones(mask, np.int64).tobytes()),
    )


DTYPES = {
    "numbers for texts": (text("INT64", [1, 1], bytes(8)), "expects 'BYTES'"),
    "a dtype that is none": (text("POEM", [1, 1], bytes(8)), "expects 'BYTES'"),
    "doubles for floats": (audio("FP64", [1, 40], bytes(320)), "expects 'FP32'"),
    "floats for bytes": (images([1, 10], bytes(40), "FP32"), "expects 'UINT8'"),
}
SHAPES = {
    "an axis too few": (text("BYTES", [1], pack([b"x"])), "unexpected shape|batch"),
    "an axis too many": (text("BYTES", [1, 1, 1], pack([b"x"])), "unexpected shape|batch"),
    "no axis at all": (text("BYTES", [], pack([b"x"])), "no shape"),
    "two texts a row": (text("BYTES", [1, 2], pack([b"x", b"y"])), "unexpected shape|elements"),
    "more texts than roles": (text("BYTES", [2, 1], pack([b"x", b"y"])), "batch size"),
    "a negative axis": (text("BYTES", [-1, 1], pack([b"x"])), "batch size|shape"),
    "a product over 64 bits": (audio("FP32", [2**32, 2**32], bytes(16)), "mismatch|batch-size"),
    "fewer bytes than told": (audio("FP32", [1, 40], bytes(16)), "Expected 160, got 16"),
    "more bytes than told": (audio("FP32", [1, 4], bytes(160)), "Expected 16, got 160"),
    "a string of 2 GB in 6 bytes": (text("BYTES", [1, 1], b"\xff\xff\xff\x7fab"), "incomplete"),
    "half a length": (text("BYTES", [1, 1], b"\xff"), "incomplete"),
    "two strings told as one": (text("BYTES", [1, 1], pack([b"x", b"y"])), "expecting 1"),
    "an input twice": (
        message("embed_audio", *2 * [("AUDIO", "FP32", [1, 4], bytes(16))]),
        "already exists|expected 1",
    ),
    "an input too few": (message("embed_text"), "expected 2 inputs but got 0"),
    "an input too many": (
        message("embed_audio", *((name, "FP32", [1, 4], bytes(16)) for name in ("AUDIO", "POEM"))),
        "expected 1 input",
    ),
}
SIZES = {
    "no text": (texts([]), "elements|batch|size"),
    "no sound": (audio("FP32", [0, 16_000], b""), "size"),
    "no image": (images([0, 100], b""), "size"),
    "10,000 texts": (texts([b"x"] * 10_000), "batch-size must be <= 64"),
    "10,000 queries": (texts([b"x"] * 10_000, "embed_query"), "batch-size must be <= 64"),
    "a text of 100 kB": (texts([b"x" * 100_000]), "TEXT has 100000 bytes; at most 8192"),
    "one of 100 kB among 64": (texts([b"x"] * 63 + [b"y" * 100_000]), "TEXT has 100000 bytes"),
    "17 images": (images([17, len(PNG)], PNG * 17), "batch-size must be <= 16"),
    "31 s of sound": (
        audio("FP32", [1, 31 * 16_000], bytes(4 * 31 * 16_000)),
        "AUDIO has 496000 values a row; at most 480000",
    ),
    "tokens over the limit": (ids(*[5] * 512, mask=512), "SENTENCE_IDS has 512 values a row"),
    "an image over the limit": (
        images([1, MAX_IMAGE_BYTES + 1], bytes(MAX_IMAGE_BYTES + 1)),
        f"at most {MAX_IMAGE_BYTES}",
    ),
}
MEDIA = {
    "words for an image": (images([1, 800], b"no image" * 100), r"\[media:not_media\]"),
    "nothing for an image": (images([1, 0], b""), r"\[media:not_media\]"),
    "half an image": (images([1, 200], PNG[:200]), r"\[media:undecodable\]"),
    "one bad image of two": (images([2, len(PNG)], PNG + bytes(len(PNG))), r"\[media:not_media\]"),
}
REFUSED = DTYPES | SHAPES | SIZES | MEDIA
FAILED = {
    "sound of NaN": (
        audio("FP32", [1, 16_000], np.full(16_000, np.nan, np.float32).tobytes()),
        "NaN or infinity",
    ),
    "sound of one sample": (audio("FP32", [1, 1], bytes(4)), "Conv"),
    "an id that is no token": (ids(*[10**9] * 8), "Gather"),
    "ids without as much mask": (ids(*[5] * 8, mask=16), "SENTENCE|Add|dimension|shape"),
}


@pytest.fixture(scope="module")
def channel(demo):
    with grpc.insecure_channel(demo.stack.part("triton").address) as channel:
        yield channel


@pytest.fixture(scope="module")
def call(channel):
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    return lambda request: stub.ModelInfer(request, timeout=TIMEOUT_S)


@pytest.fixture(autouse=True)
def still_answers(call):
    """After each test the server answers all it is asked, with the same vectors as before."""
    good = (texts([b"bread"], "embed_query"), images([1, len(PNG)], PNG))
    good += (audio("FP32", [1, 16_000], np.ones(16_000, np.float32).tobytes()),)
    before = [vectors(call(request)) for request in good]
    yield
    for request, expected in zip(good, before, strict=True):
        np.testing.assert_allclose(vectors(call(request)), expected, atol=1e-3)


def vectors(reply):
    return np.concatenate([np.frombuffer(raw, np.float32) for raw in reply.raw_output_contents])


@pytest.mark.parametrize("case", REFUSED)
def test_input_that_breaks_the_contract_is_refused_in_words(call, case):
    request, words = REFUSED[case]
    with pytest.raises(grpc.RpcError, match=words) as refused:
        call(request)
    assert refused.value.code() == INVALID


@pytest.mark.parametrize("case", FAILED)
def test_input_that_no_model_can_use_fails_alone(call, case):
    request, words = FAILED[case]
    with pytest.raises(grpc.RpcError, match=words) as failed:
        call(request)
    assert failed.value.code() in (INVALID, INTERNAL)


@pytest.mark.parametrize(
    "garbage", [b"\xff" * 64, b"not protobuf", bytes(1_000)], ids=["ones", "words", "zeros"]
)
def test_bytes_that_are_no_message_at_all_are_refused(channel, garbage):
    send = channel.unary_unary(METHOD)
    with pytest.raises(grpc.RpcError):
        send(garbage, timeout=TIMEOUT_S)


@pytest.mark.anyio
async def test_the_door_does_not_take_an_input_that_fails_for_a_server_that_is_away(demo):
    (bundle,) = list_bundles(demo.stack.data_dir / "models", "mini")
    door = Triton(demo.stack.part("triton").address, bundle)
    nothing = np.full((1, 16_000), np.nan, np.float32)
    with pytest.raises(ModelFailed, match="NaN or infinity"):
        await door.embed_audio(nothing, timeout_s=TIMEOUT_S)
    await door.close()


def test_a_request_does_not_fail_with_those_that_it_is_merged_with(channel):
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    bad = FAILED["sound of NaN"][0]
    good = audio("FP32", [1, 16_000], np.ones(16_000, np.float32).tobytes())
    calls = [stub.ModelInfer.future(r, timeout=TIMEOUT_S) for r in [bad, good] * 32]
    assert all(reply.exception() is not None for reply in calls[::2])
    assert [reply.exception() for reply in calls[1::2]] == [None] * 32
