"""Everything that needs a GPU, in one go: builds, serves, compares and measures.

    python -m export.gpu_check --work gpu-check

Each step runs in a process of its own, so one that fails, crashes or hangs is reported and the
others go on. Nothing is installed: a step whose package is missing is skipped and says which.
Results go to `report.json` and `report.md` in the work folder, which the next run uses again.

Exit code 0: all steps passed; 1: one failed; 3: there is no GPU here; 4: none failed, but one could
not run.
"""

import argparse
import importlib
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from export.gpu_device import NoGpu, find_gpu
from export.gpu_report import (
    EXIT_NO_GPU,
    FAILED,
    OK,
    SKIPPED,
    Report,
    Row,
    Skipped,
    StepResult,
    exit_code,
    markdown,
)
from gateway.errors import PixserveError

STEPS: dict[str, str] = {  # in their order; each is a function of a work folder: module:function
    "environment": "export.gpu_steps:environment",
    "parity": "export.gpu_steps:parity",
    "video": "export.gpu_steps:video",
    "images": "export.gpu_steps:images",
    "speed": "export.gpu_steps:speed",
    "stack": "export.gpu_serving:stack_parity",
    "stack speed": "export.gpu_serving:stack_speed",
    "tensorrt": "export.gpu_serving:tensorrt_plans",
}
STEP_LIMIT_S = 1_800.0
LAST_LINES = 20  # of a step's output, where it ends without a result

Command = Callable[[str, Path], Sequence[str]]


def step_command(name: str, work: Path) -> Sequence[str]:
    """Return the command that runs one step in a process of its own."""
    return (sys.executable, "-m", "export.gpu_check", "--work", str(work), "--step", name)


def run_steps(
    names: Sequence[str],
    work: Path,
    command: Command = step_command,
    limit_s: float = STEP_LIMIT_S,
) -> list[StepResult]:
    """Run steps one after the other, each in its process; returns a result for each.

    Args:
        names: of the steps.
        work: the folder that they share.
        command: what runs one.
        limit_s: of one step.
    """
    results = []
    for name in names:
        start = time.monotonic()
        result = _run_apart(name, work, command(name, work), limit_s)
        result = msgspec.structs.replace(result, seconds=time.monotonic() - start)
        say(f"{name}: {result.state} {result.detail.strip().rpartition(chr(10))[2]}".rstrip())
        results.append(result)
    return results


def _run_apart(name: str, work: Path, command: Sequence[str], limit_s: float) -> StepResult:
    path, log = result_path(work, name), work / f"{slug(name)}.log"
    path.unlink(missing_ok=True)
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            return StepResult(name, FAILED, detail=f"it did not end within {limit_s:g} s")
    if path.is_file():
        return msgspec.json.decode(path.read_bytes(), type=StepResult)
    last = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    ended = f"it ended with exit code {done.returncode} and no result"
    return StepResult(name, FAILED, detail="\n".join([*last, ended]))


def run_step(name: str, work: Path, steps: Mapping[str, str] = STEPS) -> StepResult:
    """Run one step in this process; what it raises becomes its result."""
    try:
        module, _, function = steps[name].partition(":")
        rows: list[Row] = getattr(importlib.import_module(module), function)(work)
    except Skipped as reason:
        return StepResult(name, SKIPPED, detail=str(reason))
    except ImportError as error:
        return StepResult(name, SKIPPED, detail=f"{error}; install what docs/gpu.md lists")
    except PixserveError as error:
        return StepResult(name, FAILED, detail=error.message)
    except Exception:
        return StepResult(name, FAILED, detail=traceback.format_exc())
    return StepResult(name, OK, rows)


def result_path(work: Path, name: str) -> Path:
    """Return where the process of a step leaves its result."""
    return work / f"{slug(name)}.json"


def slug(name: str) -> str:
    """Return a step's name as a part of a file's name."""
    return name.replace(" ", "-")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check, or with `--step` one step of it in this process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m export.gpu_check")
    parser.add_argument("--work", type=Path, default=Path("gpu-check"), help="folder for all files")
    parser.add_argument("--only", choices=STEPS, action="append", help="these steps alone")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        gpu = find_gpu()
    except NoGpu as reason:
        say(f"no GPU to check: {reason}")
        return EXIT_NO_GPU
    work = options.work.expanduser().resolve()
    work.mkdir(parents=True, exist_ok=True)
    if options.step:
        result = run_step(options.step, work)
        result_path(work, options.step).write_bytes(msgspec.json.encode(result))
        return exit_code([result])
    machine = f"{gpu.name} ({gpu.memory_mib} MiB), driver {gpu.driver}"
    results = run_steps(options.only or list(STEPS), work)
    report = Report(machine, datetime.now(UTC).date().isoformat(), results)
    (work / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    (work / "report.md").write_text(markdown(report))
    say(f"wrote {work / 'report.md'}")
    return exit_code(results)


def say(line: str) -> None:
    """Print one line at once."""
    print(line, flush=True)  # noqa: T201 (a command's answer)


if __name__ == "__main__":
    sys.exit(main())
