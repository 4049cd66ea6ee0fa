"""The compiled configs: Triton's own schema reads them, and they say what the contracts say."""

from collections import Counter

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from ensembles.build import CHECKED_IN_CORES, MINI, SOURCE, checked_in_configs, configs
from ensembles.contracts import Model, models
from ensembles.graphs import ensembles
from ensembles.pbtxt import TARGETS, thread_budget
from ensembles.shapes import GRAPH_BATCHES, engine_profiles

MODELS = models(MINI)
GRAPHS = ensembles(MODELS, MINI)
TEXTS = configs(MINI, versions=(1, 3), cores=CHECKED_IN_CORES)


def parsed(name: str, target: str) -> pb.ModelConfig:
    return text_format.Parse(TEXTS[f"{name}/configs/{target}.pbtxt"], pb.ModelConfig())


def test_the_checked_in_configs_are_what_the_contracts_compile_to():
    on_disk = {
        str(path.relative_to(SOURCE)): path.read_text() for path in SOURCE.glob("*/configs/*.pbtxt")
    }
    assert on_disk == checked_in_configs(), "run: python -m ensembles.build"


def test_every_python_model_has_its_code():
    python_models = {name for name, model in MODELS.items() if model.runtime == "python"}
    assert {path.parent.parent.name for path in SOURCE.glob("*/1/model.py")} == python_models


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_config_has_the_tensors_of_its_contract(name, target):
    assert_tensors_agree(parsed(name, target), MODELS[name])
    assert list(parsed(name, target).version_policy.specific.versions) == [1, 3]


def assert_tensors_agree(config: pb.ModelConfig, contract: Model) -> None:
    assert config.max_batch_size == contract.max_batch
    for listed, tensors in ((config.input, contract.inputs), (config.output, contract.outputs)):
        assert [(t.name, tuple(t.dims)) for t in listed] == [(t.name, t.shape) for t in tensors]
        kinds = [pb.DataType.Name(tensor.data_type) for tensor in listed]
        assert kinds == [f"TYPE_{t.dtype.replace('BYTES', 'STRING')}" for t in tensors]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_each_bundle_has_ensembles_pinned_to_it(name, target):
    for served, version in ((name, 3), (f"{name}_v1", 1), (f"{name}_v3", 3)):
        config = parsed(served, target)
        assert config.name == served
        assert_tensors_agree(config, GRAPHS[name].contract)
        assert list(config.version_policy.specific.versions) == [version]
        assert {step.model_version for step in config.ensemble_scheduling.step} == {version}


@pytest.mark.parametrize("name", [n for n, m in MODELS.items() if m.runtime == "encoder"])
def test_the_encoders_run_on_the_backend_of_each_target(name):
    assert parsed(name, "cpu").backend == "encoder"
    assert parsed(name, "cpu").parameters["providers"].string_value == "CPUExecutionProvider"
    assert "CUDAExecutionProvider" in parsed(name, "cuda").parameters["providers"].string_value
    assert parsed(name, "gpu").platform == "tensorrt_plan"


def test_on_a_gpu_dali_decodes_pictures_and_no_fixed_size_is_left_open():
    assert {n for n in MODELS if parsed(n, "gpu").backend == "dali"} == {
        "decode_images",
        "decode_video",
    }
    for name, model in MODELS.items():
        if model.runtime == "encoder":
            assert all(-1 not in tensor.dims for tensor in parsed(name, "gpu").output)


@pytest.mark.parametrize("cores", [1, 2, 4, 16, 96])
def test_the_threads_of_one_instance_fit_the_machine(cores):
    threads = thread_budget(cores)
    assert 1 <= threads.query <= cores
    assert 1 <= threads.ingest <= cores


@pytest.mark.parametrize("target", TARGETS)
def test_no_encoder_bounds_its_queue_because_triton_then_forgets_to_wake_its_batcher(target):
    for name in ("clip_text", "sentence", "clip_vision", "wav2vec2", "fusion"):
        config = parsed(name, target)
        assert config.HasField("dynamic_batching")
        assert config.dynamic_batching == pb.ModelDynamicBatching()


def test_texts_of_different_buckets_may_share_an_execution():
    ragged = {
        (name, target)
        for name in MODELS
        for target in TARGETS
        if any(tensor.allow_ragged_batch for tensor in parsed(name, target).input)
    }
    assert ragged == {(n, t) for n in ("clip_text", "sentence") for t in ("cpu", "cuda")}


ENCODERS = [name for name, model in MODELS.items() if model.runtime == "encoder"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_runs_a_querys_shapes_before_it_is_ready(name, target):
    config = parsed(name, target)
    batches = {request.batch_size for request in config.model_warmup}
    assert batches == ({1} if target == "cpu" else {1, 16, 64})
    for request in config.model_warmup:
        assert set(request.inputs) == {tensor.name for tensor in config.input}
        for tensor in config.input:
            given = request.inputs[tensor.name]
            assert given.data_type == tensor.data_type
            assert given.zero_data  # random bits may be NaN, or ids that no table has
            assert all(a in (-1, b) for a, b in zip(tensor.dims, given.dims, strict=True))
            assert -1 not in given.dims


def test_every_bucket_that_a_query_hits_is_warm():
    for name, prefix in (("clip_text", "CLIP"), ("sentence", "SENTENCE")):
        for target in TARGETS:
            requests = parsed(name, target).model_warmup
            single = [request for request in requests if request.batch_size == 1]
            assert {request.inputs[f"{prefix}_IDS"].dims[0] for request in single} == {8, 16, 32}


@pytest.mark.parametrize("name", ENCODERS)
def test_triton_may_use_every_profile_of_an_engine(name):
    (group,) = parsed(name, "gpu").instance_group
    count = len(engine_profiles(MODELS[name], MINI))
    assert list(group.profile) == [str(index) for index in range(count)]


def test_graphs_are_captured_for_small_batches_of_short_texts_alone():
    captured = {name for name in MODELS if parsed(name, "gpu").optimization.cuda.graphs}
    assert captured == {"clip_text", "sentence"}
    specs = parsed("clip_text", "gpu").optimization.cuda.graph_spec
    shapes = {(spec.batch_size, spec.input["CLIP_IDS"].dim[0]) for spec in specs}
    assert shapes == {(batch, width) for batch in GRAPH_BATCHES for width in (8, 16, 32)}


def test_dalis_backend_gets_a_chunk_as_a_batch_of_one_and_gives_its_frames_as_the_batch():
    config = parsed("decode_video", "gpu")
    assert [list(tensor.reshape.shape) for tensor in config.input] == [[1, -1], [1, -1]]
    assert config.parameters["split_along_outer_axis"].string_value == "PIXELS"
    for name, target in (("decode_images", "gpu"), ("decode_video", "cpu")):
        assert not any(tensor.HasField("reshape") for tensor in parsed(name, target).input)


def test_configs_are_the_same_each_time_they_are_compiled():
    again = configs(MINI, versions=(1, 3), cores=CHECKED_IN_CORES)
    assert Counter(again.items()) == Counter(TEXTS.items())
