"""The GPU's video pipeline, run on the CPU: DALI decodes VP9 there too. Needs no GPU."""

import msgspec
import numpy as np
import pytest

from ensembles import gpu_pipelines
from ensembles.build import MINI
from ensembles.bundle import Bundle, Capabilities, bundle_folder, repository_path
from ensembles.contracts import ABSENT, MAX_CHUNK_FRAMES
from ensembles.gpu_pipelines import PIPELINES, images_pipeline, serialise_all, video_pipeline
from ensembles.pipelines import FrameFitter
from gateway.errors import ConfigurationError
from ingest.decode import decode_frames
from tests.media import image_bytes, make_video

SIZE = MINI.image_size_px
MEAN_LEVELS = 2.0  # of 255, a pixel's mean: DALI and FFmpeg round colours differently (seen: 1.3)
ON_A_CPU = {  # as FrameFitter: fed by hand, one request after the other
    "size_px": SIZE,
    "device": "cpu",
    "num_threads": 1,
    "device_id": None,
    "prefetch_queue_depth": 1,
    "exec_pipelined": False,
    "exec_async": False,
}


class Fed:
    """A pipeline that is fed as Triton's DALI backend does: one chunk is a batch of one."""

    def __init__(self, how: str = "crop") -> None:
        self._pipeline = video_pipeline(how=how, batch_size=1, **ON_A_CPU)
        self._pipeline.build()

    def __call__(self, chunk: bytes, indices: list[int]) -> np.ndarray:
        self._pipeline.feed_input("CHUNK", [np.frombuffer(chunk, np.uint8)])
        self._pipeline.feed_input("FRAME_INDICES", [np.array(indices, np.int32)])
        (output,) = self._pipeline.run()
        return np.asarray(output[0])


@pytest.fixture(scope="module")
def chunk(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("video") / "a.webm"
    return make_video(path, video_codec="libvpx-vp9", audio_codec="libopus").read_bytes()


@pytest.mark.parametrize("how", ["crop", "squash"])
def test_the_frames_asked_for_are_those_that_pyav_decodes(chunk, how):
    indices = [0, 7, 3, 30]
    decoded = decode_frames(chunk, indices, short_side_px=10 * SIZE)
    expected = FrameFitter(SIZE, how)(list(decoded))
    frames = Fed(how)(chunk, indices)
    assert frames.shape == expected.shape == (4, 3, SIZE, SIZE)
    differences = np.abs(frames.astype(int) - expected).mean(axis=(1, 2, 3))
    assert differences.max() <= MEAN_LEVELS, differences
    others = np.abs(frames.astype(int) - expected[::-1]).mean(axis=(1, 2, 3))
    assert others.min() > MEAN_LEVELS  # so that the order means something


def test_a_chunk_without_frames_answers_with_one_black_frame_and_is_not_decoded(chunk):
    fed = Fed()
    for data in (b"no video at all", chunk):
        frames = fed(data, [ABSENT])
        assert frames.shape == (1, 3, SIZE, SIZE)
        assert not frames.any()
    assert fed(chunk, [5]).any()  # and the next chunk is


def test_a_whole_chunk_of_frames_fits(chunk):
    assert Fed()(chunk, [0] * MAX_CHUNK_FRAMES).shape[0] == MAX_CHUNK_FRAMES


def test_images_are_fitted_as_on_a_cpu():
    pipeline = images_pipeline(how="crop", batch_size=2, **ON_A_CPU)
    pipeline.build()
    encoded = np.frombuffer(image_bytes("png"), np.uint8)
    pipeline.feed_input("ENCODED", [encoded, np.pad(encoded, (0, 100))])  # zeros after the end
    (output,) = pipeline.run()
    first, second = (np.asarray(output[index]) for index in range(2))
    assert first.shape == (3, SIZE, SIZE)
    assert np.array_equal(first, second)


@pytest.fixture
def models_dir(tmp_path):
    """A repository of one bundle with the decode models' folders, and nothing in them."""
    bundle = Bundle("mini", 1, MINI, Capabilities(False, False, False), {})
    folder = bundle_folder(tmp_path, "mini", 1)
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_bytes(msgspec.json.encode(bundle))
    for model in PIPELINES:
        (repository_path(tmp_path, "mini") / model / "1").mkdir(parents=True)
    return tmp_path


def test_what_is_missing_is_serialised_once(models_dir, monkeypatch):
    wanted = []

    def serialise(model, dims, path):
        wanted.append((model, dims))
        path.write_bytes(b"a pipeline")

    monkeypatch.setattr(gpu_pipelines, "serialise", serialise)
    written = serialise_all(models_dir, "mini")
    assert {path.relative_to(repository_path(models_dir, "mini")).parts for path in written} == {
        (model, "1", "model.dali") for model in PIPELINES
    }
    assert wanted == [(model, MINI) for model in PIPELINES]
    assert serialise_all(models_dir, "mini") == []


def test_a_profile_that_was_not_exported_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError, match="pixserve export --profile large --target gpu"):
        serialise_all(tmp_path, "large")
