"""The ensembles as a gRPC client calls them: the official client, the plain names."""

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from ensembles.bundle import list_bundles
from gateway.triton import Triton
from ingest.decode import decode_image
from tests.fake_triton import check_query_embeddings
from tests.media import image_bytes

pytestmark = pytest.mark.live


@pytest.mark.anyio
async def test_the_real_server_keeps_the_contract_that_the_fake_keeps(demo):
    (bundle,) = list_bundles(demo.stack.data_dir / "models", "mini")
    door = Triton(demo.stack.part("triton").address, bundle)
    await check_query_embeddings(door, bundle, image_bytes("png"))
    await door.close()


@pytest.fixture(scope="module")
def server(demo):
    with triton.InferenceServerClient(demo.stack.part("triton").address) as client:
        yield client


def texts(name, values):
    tensor = triton.InferInput(name, [len(values), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[value] for value in values], dtype=np.object_))
    return tensor


def tensor(name, array, dtype):
    made = triton.InferInput(name, list(array.shape), dtype)
    made.set_data_from_numpy(array)
    return made


def test_embed_query_returns_both_embeddings_of_a_batch(server):
    values = [b"a short one", b"a somewhat longer text about how bread is baked at home"]
    inputs = [texts("TEXT", values), texts("ROLE", [b"query"] * 2)]
    reply = server.infer("embed_query", inputs)
    sentence, clip = reply.as_numpy("SENTENCE_EMBEDDING"), reply.as_numpy("CLIP_EMBEDDING")
    assert sentence.shape == (2, 384)
    assert np.linalg.norm(sentence, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(clip, axis=1) == pytest.approx(1, abs=1e-5)


def test_texts_of_one_batch_do_not_touch_each_other(server):
    def embed(*values):
        inputs = [texts("TEXT", values), texts("ROLE", [b"query"] * len(values))]
        return server.infer("embed_text", inputs).as_numpy("SENTENCE_EMBEDDING")

    together = embed(b"bread", b"a much longer sentence that needs another bucket of tokens")
    assert (together[0] @ embed(b"bread")[0]) >= 0.9999


def test_equal_meanings_are_near_and_others_far(server):
    values = [b"a man is playing the guitar", b"someone plays an instrument", b"stock market crash"]
    inputs = [texts("TEXT", values), texts("ROLE", [b"query"] * 3)]
    vectors = server.infer("embed_text", inputs).as_numpy("SENTENCE_EMBEDDING")
    assert vectors[0] @ vectors[1] > 0.4
    assert vectors[0] @ vectors[2] < 0.2


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_images_of_every_kind_are_embedded(server, kind):
    encoded = np.frombuffer(image_bytes(kind), np.uint8)[None]
    reply = server.infer("embed_images", [tensor("ENCODED", encoded, "UINT8")])
    assert reply.as_numpy("IMAGE_EMBEDDING").shape == (1, 128)


def test_zeros_after_an_image_change_nothing(server):
    image = np.frombuffer(image_bytes("png"), np.uint8)[None]
    padded = np.pad(image, ((0, 0), (0, 5_000)))
    alone, batch = (
        server.infer("embed_images", [tensor("ENCODED", rows, "UINT8")]).as_numpy("IMAGE_EMBEDDING")
        for rows in (image, np.repeat(padded, 2, axis=0))
    )
    assert batch[1] @ alone[0] == pytest.approx(1, abs=1e-4)


def test_frames_that_are_decoded_are_embedded_as_the_image_that_they_are(server):
    image = image_bytes("png")
    encoded = np.frombuffer(image, np.uint8)[None]
    frame = decode_image(image, short_side_px=192)[None]  # twice what mini's encoder reads
    seen = server.infer("embed_frames", [tensor("FRAMES", np.repeat(frame, 3, 0), "UINT8")])
    image = server.infer("embed_images", [tensor("ENCODED", encoded, "UINT8")])
    found = seen.as_numpy("FRAME_EMBEDDINGS")
    assert found.shape == (3, 128)
    np.testing.assert_allclose(found @ image.as_numpy("IMAGE_EMBEDDING")[0], 1, atol=1e-5)


def test_sounds_are_embedded(server):
    pcm = np.sin(np.arange(16_000, dtype=np.float32) / 10)[None]
    reply = server.infer("embed_audio", [tensor("AUDIO", pcm, "FP32")])
    assert reply.as_numpy("AUDIO_EMBEDDING").shape == (1, 128)


def fuse(server, frames, weights):
    """Fuse two segments of frames alone, as a client that kept their tokens does."""
    inputs = [
        tensor("FRAME_TOKENS", frames, "FP32"),
        tensor("FRAME_TOKEN_WEIGHTS", weights, "FP32"),
        tensor("AUDIO_TOKENS", np.zeros((2, 1, 128), np.float32), "FP32"),
        tensor("AUDIO_TOKEN_WEIGHTS", np.zeros((2, 1), np.float32), "FP32"),
        tensor("TEXT_TOKENS", np.zeros((2, 1, 384), np.float32), "FP32"),
        tensor("TEXT_TOKEN_WEIGHTS", np.zeros((2, 1), np.float32), "FP32"),
    ]
    return server.infer("fuse", inputs).as_numpy("FUSED_EMBEDDING")


def test_stored_tokens_are_fused_and_more_pix_at_the_same_frames_changes_nothing(server):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(2, 3, 128)).astype(np.float32)
    frames /= np.linalg.norm(frames, axis=2, keepdims=True)
    weights = rng.uniform(1, 3, size=(2, 3)).astype(np.float32)
    fused = fuse(server, frames, weights)
    assert np.linalg.norm(fused, axis=1) == pytest.approx(1, abs=1e-5)
    assert fuse(server, frames, 2 * weights) == pytest.approx(fused, abs=1e-5)
    padded = np.pad(frames, ((0, 0), (0, 2), (0, 0)), constant_values=0.5)
    assert fuse(server, padded, np.pad(weights, ((0, 0), (0, 2)))) == pytest.approx(fused, abs=1e-5)


@pytest.mark.parametrize(
    ("ensemble", "inputs", "message"),
    [
        ("embed_text", [texts("TEXT", [b"x" * 9_000]), texts("ROLE", [b"query"])], "at most 8192"),
        ("embed_text", [texts("TEXT", [b"x"]), texts("ROLE", [b"poet"])], "query, passage"),
        ("embed_text", [texts("TEXT", [b"\xff\xfe"]), texts("ROLE", [b"query"])], "utf-8"),
        (
            "embed_text",
            [texts("TEXT", [b"x"] * 65), texts("ROLE", [b"query"] * 65)],
            "batch-size must be <= 64",
        ),
        ("embed_text", [texts("TEXT", [b"x"])], "expected 2 inputs but got 1"),
        ("embed_images", [tensor("ENCODED", np.ones((1, 40), np.uint8), "UINT8")], "media:"),
        ("embed_audio", [tensor("AUDIO", np.ones((1, 40), np.float64), "FP64")], "AUDIO"),
        ("embed_frames", [tensor("FRAMES", np.ones((65, 2, 2, 3), np.uint8), "UINT8")], "1 to 64"),
        ("embed_frames", [tensor("FRAMES", np.ones((1, 2, 2, 4), np.uint8), "UINT8")], "FRAMES"),
    ],
)
def test_input_that_breaks_the_contract_is_refused_in_words(server, ensemble, inputs, message):
    with pytest.raises(InferenceServerException, match=message) as refused:
        server.infer(ensemble, inputs)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_dangerous_protocols_are_closed_to_clients(server):
    with pytest.raises(InferenceServerException):
        server.load_model("embed_text")
    with pytest.raises(InferenceServerException):
        server.register_system_shared_memory("region", "/region", 64)
