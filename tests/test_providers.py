"""The local stack's target: a GPU that cannot be used is said, never silently replaced."""

import pytest

from deploy.providers import CUDA, parse_target, require_provider
from gateway.errors import ConfigurationError, InvalidRequest
from gateway.settings import settings_from_environment


def test_without_the_cuda_provider_the_package_that_has_it_is_named():
    with pytest.raises(ConfigurationError, match="onnxruntime-gpu") as raised:
        require_provider("cuda", ["CPUExecutionProvider"])
    assert "CPUExecutionProvider" in str(raised.value)


def test_with_it_and_on_a_cpu_nothing_is_refused():
    require_provider("cuda", [CUDA, "CPUExecutionProvider"])
    require_provider("cpu", [])


def test_the_installed_onnx_runtime_is_asked():
    onnxruntime = pytest.importorskip("onnxruntime")
    if CUDA in onnxruntime.get_available_providers():
        require_provider("cuda")
    else:
        with pytest.raises(ConfigurationError, match=CUDA):
            require_provider("cuda")


def test_the_vendors_target_is_not_the_local_stacks():
    assert [parse_target(name) for name in ("cpu", "cuda")] == ["cpu", "cuda"]
    with pytest.raises(InvalidRequest, match=r"cpu or cuda, not 'gpu'.*image of Triton"):
        parse_target("gpu")


def test_the_target_is_a_setting():
    assert settings_from_environment({}).target == "cpu"
    assert settings_from_environment({"PIXSERVE_TARGET": "cuda"}).target == "cuda"
    with pytest.raises(ConfigurationError, match="PIXSERVE_TARGET"):
        settings_from_environment({"PIXSERVE_TARGET": "tpu"})
