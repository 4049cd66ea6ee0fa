"""The images' file, read as text: no container engine is needed, and none has built it yet."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ("gateway", "ingest", "triton")


def instructions() -> list[tuple[str, str]]:
    """The instructions in their order: comments left out, continued lines joined."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    return [
        (word.upper(), rest.strip())
        for line in joined.splitlines()
        if line.strip()
        for word, _, rest in (line.strip().partition(" "),)
    ]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, those of the stages that it is made from before its own."""
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for word, rest in instructions():
        if word == "FROM":
            base, _, name = re.split(r"\s+", rest)
            current = found[name] = [*found.get(base, [("FROM", base)])]
        else:
            current.append((word, rest))
    return found


STAGES = stages()


def last(stage: str, word: str) -> str:
    return [rest for name, rest in STAGES[stage] if name == word][-1]


def extras_installed(stage: str) -> set[str]:
    runs = " ".join(rest for word, rest in STAGES[stage] if word == "RUN")
    return {name for group in re.findall(r"'\.\[([\w,]+)\]'", runs) for name in group.split(",")}


def test_there_is_an_image_for_each_service():
    assert set(IMAGES) <= set(STAGES)


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_base_has_a_version(stage):
    base = last(stage, "FROM")
    name, separator, tag = base.partition(":")
    assert separator, f"{base} has no tag"
    assert name
    assert re.search(r"\d+\.\d+", tag), f"{base} may mean another image tomorrow"
    assert "latest" not in tag


@pytest.mark.parametrize("stage", IMAGES)
def test_no_service_runs_as_root(stage):
    assert last(stage, "USER") not in ("root", "0")
    words = [word for word, _ in STAGES[stage]]
    assert len(words) - words[::-1].index("USER") <= words.index("CMD")


@pytest.mark.parametrize("stage", IMAGES)
def test_every_service_has_a_health_check_and_a_command_without_a_shell_in_front(stage):
    assert "CMD [" in last(stage, "HEALTHCHECK")
    command = last(stage, "CMD")
    assert command.startswith("[")
    assert "sh" not in command.split('"')[1] or "exec tritonserver" in command


@pytest.mark.parametrize("stage", IMAGES)
def test_what_is_installed_is_what_was_tested(stage):
    installs = [rest for word, rest in STAGES[stage] if word == "RUN" and "pip install" in rest]
    assert installs
    assert all("--constraint constraints.txt" in rest for rest in installs)
    assert (ROOT / "constraints.txt").is_file()


def test_the_gateway_says_both_of_its_ports():
    assert last("gateway", "EXPOSE").split() == ["8080", "8081"]
    assert "PIXSERVE_RPC_PORT" not in last("gateway", "ENV")  # gRPC is served where it is asked for


def test_the_extras_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for stage in IMAGES:
        assert extras_installed(stage) <= set(project["optional-dependencies"])
    assert "models" in extras_installed("triton")  # DALI, ONNX Runtime, tokenizers
    assert not extras_installed("gateway") & {"export", "train"}  # serving needs no torch


def test_every_package_of_the_project_is_copied():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.partition(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    copied = {rest.split()[0] for word, rest in STAGES["base"] if word == "COPY"}
    assert packages <= copied
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in packages} <= set(allowed)


def test_triton_starts_with_its_plans_and_pipelines_and_locks_what_nobody_may_use():
    command = last("triton", "CMD")
    order = ["ensembles.gpu_pipelines", "export.tensorrt", "exec tritonserver"]
    assert sorted(order, key=command.index) == order
    for wanted in ("--disable-auto-complete-config", "--allow-http=false"):
        assert wanted in command
    assert "shared-memory,model-repository,trace,logging:pixserve-admin=" in command


def test_the_encoder_backend_lies_where_triton_looks_for_it():
    copied = [rest.split() for word, rest in STAGES["triton"] if word == "COPY"]
    (words,) = [words for words in copied if words[-1].startswith("/opt/tritonserver/backends/")]
    assert words[-1] == "/opt/tritonserver/backends/encoder/model.py"
    assert (ROOT / words[0]).is_file()
