"""SigLIP 2 and CLAP, small, in the real stack: each text encoder, the pixels, words for sounds."""

import numpy as np
import pytest
import tritonclient.grpc as triton

from ensembles.bundle import Bundle, list_bundles
from export import profiles
from export.build import Order, export_bundle
from gateway.client import Client
from gateway.schemas import LegWeights, SearchRequest
from gateway.triton import Triton, served_bundle
from tests import media
from tests.conftest import free_port
from tests.fake_triton import check_query_embeddings
from tests.small_rows import SMALL_CLAP, SMALL_SIGLIP
from tests.stacks import LiveStack, running_stack
from tests.waiting import until

pytestmark = pytest.mark.live

NAME = "mini-siglip2-clap"


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("rows") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(profiles.VISION_MODELS, "siglip2", SMALL_SIGLIP)
        patch.setitem(profiles.SOUND_MODELS, "clap", SMALL_CLAP)
        order = Order(random_weights=True, precision="fp32")
        export_bundle(NAME, data_dir / "models", lambda *_: None, order)
    options = ("--profile", NAME, "--allow-random-weights")
    with running_stack(data_dir, free_port(), *options) as stack:
        yield stack


@pytest.fixture
def bundle(stack) -> Bundle:
    (bundle,) = list_bundles(stack.data_dir / "models", NAME)
    return bundle


def runs(stack: LiveStack, model: str) -> int:
    """How often Triton ran a model."""
    with triton.InferenceServerClient(stack.part("triton").address) as server:
        (statistics,) = server.get_inference_statistics(model).model_stats
        return int(statistics.inference_count)


@pytest.mark.anyio
async def test_the_bundle_keeps_the_contract_of_every_bundle(stack, bundle):
    door = Triton(stack.part("triton").address, bundle)
    await check_query_embeddings(door, bundle, media.image_bytes("png"))
    texts = await door.embed_sound_text(["rain on a roof", "a dog"], timeout_s=10)
    await door.close()
    assert texts.shape == (2, SMALL_CLAP.width)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-3)


@pytest.mark.anyio
async def test_words_that_look_for_no_sounds_do_not_run_the_text_encoder_for_sounds(stack, bundle):
    door = Triton(stack.part("triton").address, bundle)
    for _ in range(2):  # Triton counts a run after its answer: those before are counted by then
        await door.embed_query("rain", timeout_s=10)
        before = runs(stack, "sound_text")
    await door.embed_query("rain", timeout_s=10)
    assert runs(stack, "sound_text") == before
    await door.embed_sound_text(["rain"], timeout_s=10)
    await door.close()
    until(lambda: runs(stack, "sound_text") == before + 1)


def test_embed_query_returns_all_three_vectors_to_whoever_asks_for_nothing_else(stack):
    inputs = []
    for name, value in (("TEXT", b"rain"), ("ROLE", b"query")):
        tensor = triton.InferInput(name, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[value]], dtype=np.object_))
        inputs.append(tensor)
    with triton.InferenceServerClient(stack.part("triton").address) as server:
        reply = server.infer("embed_query", inputs)
    widths = {
        name: reply.as_numpy(name).shape
        for name in ("CLIP_EMBEDDING", "SENTENCE_EMBEDDING", "SOUND_TEXT_EMBEDDING")
    }
    assert list(widths.values()) == [(1, SMALL_SIGLIP.width), (1, 384), (1, SMALL_CLAP.width)]


@pytest.mark.anyio
async def test_a_server_known_by_its_address_tells_that_it_has_texts_for_sounds(stack, bundle):
    told = await served_bundle(stack.part("triton").address, timeout_s=10)
    assert told.dims.sound_text_tokens > 0
    assert told.dims.audio == bundle.dims.audio


def test_words_search_the_sounds_of_a_video_with_a_vector_of_their_own(stack, tmp_path):
    video = media.make_video(tmp_path / "video.mp4", duration_s=4)
    stack.ingest(video, title="Video")
    before = runs(stack, "sound_text")
    with Client(stack.url) as client:
        by_sound = client.search(SearchRequest(audio=media.wav_bytes()))
        by_words = client.search(SearchRequest(query="a tone", weights=LegWeights(sound=1.0)))
    assert by_sound.degraded == by_words.degraded == ()
    assert by_words.random_weights
    assert runs(stack, "sound_text") == before + 1
