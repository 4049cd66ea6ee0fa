"""The encoder backend at load: an ONNX file that is not its contract's is refused, both named.

The backend runs inside Triton; only Triton's own module is stood in for.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import onnxruntime
import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2 as pb

import ensembles
from ensembles.build import MINI
from ensembles.contracts import Model, Tensor, models
from ensembles.pbtxt import Target, model_config, thread_budget
from export.modules import ClipText
from export.onnx import export_onnx
from training.models import mini_clip

BACKEND = Path(ensembles.__file__).parent / "backends" / "encoder" / "model.py"
CONTRACT = models(MINI)["clip_text"]


class TritonModelException(Exception):  # noqa: N818 (Triton's own name)
    pass


@pytest.fixture(scope="module")
def backend():
    """The backend's file, imported as Triton does."""
    triton = ModuleType("triton_python_backend_utils")
    triton.TritonModelException = TritonModelException  # type: ignore[attr-defined]
    sys.modules["triton_python_backend_utils"] = triton
    spec = importlib.util.spec_from_file_location("encoder_backend", BACKEND)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["triton_python_backend_utils"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A model's folder with one version, whose file fits the contract."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "1").mkdir()
    export_onnx(ClipText(mini_clip(MINI, seed=1)), CONTRACT, folder / "1" / "model.onnx")
    return folder


def load(backend, repository: Path, contract: Model, target: Target = "cpu") -> None:
    text = model_config(contract, target, (1,), thread_budget(2), MINI)
    config = text_format.Parse(text, pb.ModelConfig())
    for parameter in config.parameters:
        if parameter == "nice":
            config.parameters[parameter].string_value = "0"
    arguments = {
        "model_config": json.dumps(json_format.MessageToDict(config, True, True)),
        "model_repository": str(repository),
        "model_version": "1",
    }
    backend.TritonPythonModel().initialize(arguments)


def with_tensors(inputs: tuple[Tensor, ...] = (), outputs: tuple[Tensor, ...] = ()) -> Model:
    return msgspec.structs.replace(
        CONTRACT, inputs=inputs or CONTRACT.inputs, outputs=outputs or CONTRACT.outputs
    )


def test_a_file_that_fits_its_contract_is_loaded(backend, repository):
    load(backend, repository, CONTRACT)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="it has CUDA"
)
@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_a_provider_that_cannot_be_had_is_refused_instead_of_the_cpu_in_its_place(
    backend, repository
):
    with pytest.raises(TritonModelException, match="CPUExecutionProvider, but the config asks"):
        load(backend, repository, CONTRACT, "cuda")


IDS, MASK = CONTRACT.inputs


@pytest.mark.parametrize(
    ("contract", "named"),
    [
        (
            with_tensors(outputs=(Tensor("CLIP_EMBEDDING", "FP32", (512,)),)),
            r"output CLIP_EMBEDDING is .*\[512\].* in the contract but .*128.* in model\.onnx",
        ),
        (
            with_tensors(outputs=(Tensor("EMBEDDING", "FP32", (MINI.vision,)),)),
            r"output EMBEDDING is .* in the contract but None in model\.onnx",
        ),
        (
            with_tensors(inputs=(Tensor("CLIP_IDS", "FP32", (-1,)), MASK)),
            r"input CLIP_IDS is .*tensor\(float\).* but .*tensor\(int64\)",
        ),
        (
            with_tensors(inputs=(Tensor("CLIP_IDS", "INT64", (77,)), MASK)),
            r"input CLIP_IDS is .*\[77\].* but .*clip_length",
        ),
        (
            with_tensors(inputs=(Tensor("CLIP_IDS", "INT64", (-1, 4)), MASK)),
            r"input CLIP_IDS is .*\[-1, 4\].* but .*clip_length",
        ),
        (with_tensors(inputs=(IDS,)), r"model\.onnx has inputs that the contract lacks.*CLIP_MASK"),
    ],
)
def test_a_file_that_is_not_its_contracts_is_refused_with_both_sides_named(
    backend, repository, contract, named
):
    with pytest.raises(TritonModelException, match=named):
        load(backend, repository, contract)


@pytest.mark.parametrize("content", [b"", b"no model at all"])
def test_a_broken_file_is_refused_by_its_path(backend, tmp_path, content):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").write_bytes(content)
    with pytest.raises(TritonModelException, match=r"1/model\.onnx cannot be loaded"):
        load(backend, tmp_path, CONTRACT)


def test_a_file_that_is_missing_is_refused_by_its_path(backend, tmp_path):
    with pytest.raises(TritonModelException, match=r"1/model\.onnx cannot be loaded"):
        load(backend, tmp_path, CONTRACT)
