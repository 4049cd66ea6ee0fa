"""The GPU check, as far as a machine without a GPU can run it: isolation, report, exit codes."""

import importlib.util
import os
import signal
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort
import pytest

from deploy.providers import CUDA
from export import gpu_check, gpu_device, gpu_steps
from export.gpu_check import STEPS, main, run_step, run_steps
from export.gpu_device import NoGpu, used_memory_mib
from export.gpu_report import (
    EXIT_FAILED,
    EXIT_INCOMPLETE,
    EXIT_NO_GPU,
    EXIT_OK,
    FAILED,
    OK,
    SKIPPED,
    Report,
    Skipped,
    StepResult,
    exit_code,
    markdown,
)
from export.onnx import export_onnx
from export.parity import compare
from gateway.errors import ModelFailed
from tests.test_fp16 import CONTRACT, Toy, feeds

NO_CUDA = pytest.mark.skipif(
    CUDA in ort.get_available_providers(), reason="tells what is missing, and nothing is here"
)


def result(state: str, **given: object) -> StepResult:
    return msgspec.convert({"name": "a step", "state": state, **given}, StepResult)


def test_without_a_gpu_one_line_says_so_with_an_exit_code_of_its_own(tmp_path, capsys, monkeypatch):
    def nothing() -> None:
        raise NoGpu("there is no nvidia-smi here")

    monkeypatch.setattr(gpu_check, "find_gpu", nothing)
    assert main(["--work", str(tmp_path / "work")]) == EXIT_NO_GPU == 3
    assert capsys.readouterr().out == "no GPU to check: there is no nvidia-smi here\n"
    assert not (tmp_path / "work").exists()


def test_the_steps_are_functions_that_exist():
    for place in STEPS.values():
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def script(body: str):
    """What stands for the process of a step."""
    return lambda _name, _work: (sys.executable, "-c", body)


CRASH = f"import os; print('just before', flush=True); os.kill(os.getpid(), {signal.SIGSEGV})"


def test_a_step_that_crashes_or_hangs_is_reported_and_the_others_go_on(tmp_path):
    passes = f"""
import sys; from pathlib import Path
Path({str(tmp_path)!r}, 'fine.json').write_text('{{"name": "fine", "state": "ok"}}')
"""
    bodies = {"crashes": CRASH, "hangs": "import signal; signal.pause()", "fine": passes}
    results = run_steps(
        list(bodies), tmp_path, lambda name, work: script(bodies[name])(name, work), limit_s=5
    )
    assert [(step.name, step.state) for step in results] == [
        ("crashes", FAILED),
        ("hangs", FAILED),
        ("fine", OK),
    ]
    assert "just before" in results[0].detail
    assert str(-signal.SIGSEGV) in results[0].detail
    assert "did not end within 5 s" in results[1].detail


def test_a_result_of_an_earlier_run_is_not_taken_for_this_ones(tmp_path):
    (tmp_path / "a-step.json").write_text('{"name": "a step", "state": "ok"}')
    (found,) = run_steps(["a step"], tmp_path, script("raise SystemExit(7)"))
    assert found.state == FAILED
    assert "exit code 7" in found.detail


def test_what_a_step_raises_becomes_its_result(tmp_path, monkeypatch):
    def steps(raised: Exception) -> dict[str, str]:
        def step(_work: Path) -> None:
            raise raised

        monkeypatch.setattr(gpu_check, "a_step", step, raising=False)
        return {"s": "export.gpu_check:a_step"}

    assert run_step("s", tmp_path, steps(Skipped("no such package"))) == StepResult(
        "s", SKIPPED, detail="no such package"
    )
    assert run_step("s", tmp_path, steps(ModelFailed("gpu", "too far"))).state == FAILED
    unexpected = run_step("s", tmp_path, steps(ZeroDivisionError("oops")))
    assert unexpected.state == FAILED
    assert "ZeroDivisionError: oops" in unexpected.detail
    assert run_step("s", tmp_path, {"s": "no_such_module:step"}).state == SKIPPED


def test_a_failed_step_counts_for_more_than_a_skipped_one():
    assert exit_code([result(OK)]) == EXIT_OK == 0
    assert exit_code([result(OK), result(SKIPPED)]) == EXIT_INCOMPLETE
    assert exit_code([result(SKIPPED), result(FAILED), result(OK)]) == EXIT_FAILED


def test_the_page_shows_every_step_with_its_figures_and_why_it_failed():
    steps = [
        result(OK, rows=[{"batch": 1, "ms": 1.23456789}, {"batch": 16, "gpu": "a|b"}], seconds=3.2),
        result(FAILED, detail="first line\nsecond line"),
    ]
    page = markdown(Report("NVIDIA H100", "2026-01-31", steps))
    assert "NVIDIA H100, 2026-01-31" in page
    assert "| a step | ok | 3 |" in page
    assert "| batch | ms | gpu |\n|---|---|---|\n| 1 | 1.2346 |  |\n| 16 |  | a\\|b |" in page
    assert "## a step: failed\n\n    first line\n    second line\n" in page


@pytest.fixture
def _pretended_gpu(tmp_path, monkeypatch) -> None:
    """A driver's tool that describes a GPU, so that the check runs up to where one is used."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'Pretended GPU, 9.0, 570.1, 81559'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("_pretended_gpu")
def test_the_check_runs_a_step_in_a_process_and_writes_both_reports(tmp_path, capsys):
    work = tmp_path / "work"
    assert main(["--work", str(work), "--only", "environment"]) == EXIT_OK
    report = msgspec.json.decode((work / "report.json").read_bytes(), type=Report)
    assert report.machine == "Pretended GPU (81559 MiB), driver 570.1"
    found = {row["what"]: row["found"] for row in report.steps[0].rows}
    assert found["GPU"] == "Pretended GPU, compute capability 9.0"
    assert found["onnxruntime"] == ort.__version__
    assert "Pretended GPU" in (work / "report.md").read_text()
    assert capsys.readouterr().out.startswith("environment: ok\n")


@NO_CUDA
@pytest.mark.usefixtures("_pretended_gpu")
def test_a_step_whose_package_is_missing_is_skipped_and_names_it(tmp_path):
    for name in ("parity", "speed", "stack", "stack speed"):
        skipped = run_step(name, tmp_path)
        assert skipped.state == SKIPPED, skipped
        assert "onnxruntime-gpu" in skipped.detail
    if importlib.util.find_spec("tensorrt") is None:
        assert "package tensorrt" in run_step("tensorrt", tmp_path).detail
    assert list(tmp_path.rglob("*.onnx")) == []  # before any long work


@NO_CUDA
def test_no_session_is_opened_on_a_cpu_in_the_place_of_a_gpu(tmp_path):
    with pytest.raises(Skipped, match="onnxruntime-gpu"):
        gpu_steps.cuda_session(tmp_path / "model.onnx")


def test_a_provider_that_did_not_start_is_a_failure(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    export_onnx(Toy().eval(), CONTRACT, path)
    opened = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    monkeypatch.setattr(gpu_steps, "require_cuda", lambda: None)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setattr(ort, "InferenceSession", lambda *_args, **_kwargs: opened)
    with pytest.raises(ModelFailed, match="did not start"):
        gpu_steps.cuda_session(path)


def test_a_measurement_counts_rows_and_not_calls(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    export_onnx(Toy().eval(), CONTRACT, path)
    monkeypatch.setattr(gpu_steps, "ROUND_S", 0.05)
    monkeypatch.setattr(gpu_device, "TOOL", "true")  # prints nothing, ends at once
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    row = gpu_steps.measure(session, feeds(1, 0)[0], 4)
    assert row["batch"] == 4
    assert row["GPU busy %"] == "not read"
    assert row["ms p50"] <= row["ms p99"]
    times = [0.5, 0.5, 1.0]
    assert gpu_steps.speed_row(times, 4, [90.0, 100.0]) == {
        "batch": 4,
        "ms p50": 500.0,
        "ms p99": 1000.0,
        "rows/s": 6.0,
        "GPU busy %": 95.0,
    }


def test_vectors_and_pixels_that_are_too_far_fail_the_step():
    right = np.eye(3, dtype=np.float32)
    gpu_steps.require_alike("a model", compare(right, right))
    with pytest.raises(ModelFailed, match="a model: mean cosine"):
        gpu_steps.require_alike("a model", compare(right, right[::-1].copy()))
    with pytest.raises(ModelFailed):
        gpu_steps.require_alike("a model", compare(right, np.full_like(right, np.nan)))
    black = np.zeros((2, 3, 4, 4), np.uint8)
    assert gpu_steps.require_same_pixels("frames", black, black + 1) == 1
    with pytest.raises(ModelFailed, match=r"frames differ by 100\.0 levels"):
        gpu_steps.require_same_pixels("frames", black, black + 100)
    with pytest.raises(ModelFailed, match="expected"):
        gpu_steps.require_same_pixels("frames", black, black[:1])


def test_the_memory_in_use_is_read_from_the_driver():
    assert used_memory_mib(lambda _command: "512\n") == 512
    with pytest.raises(NoGpu, match="memory in use"):
        used_memory_mib(lambda _command: "[N/A]\n")
