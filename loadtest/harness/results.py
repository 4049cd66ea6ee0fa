"""The result of a run as a file: everything that reports, comparisons and readers need."""

from pathlib import Path
from typing import Literal

import msgspec
from hdrh.histogram import HdrHistogram

from gateway.errors import ConfigurationError
from loadtest.harness.histograms import read_log
from loadtest.harness.sampling import ModelLoad, ProcessSeries, QueuePoint
from loadtest.harness.scenario import Scenario
from loadtest.harness.series import Series

FORMAT = 1  # raised when a field changes its meaning
RESULT_FILE = "result.json"
HISTOGRAM_FOLDER = "histograms"  # one HdrHistogram log a target

Verdict = Literal["held", "broken", "invalid"]
EXIT_CODES: dict[Verdict, int] = {"held": 0, "broken": 1, "invalid": 2}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The base of what a result holds."""


class Machine(Result, frozen=True, kw_only=True):
    """Where the run took place."""

    processor: str
    cores: int
    memory_gib: float
    cpu_flags: tuple[str, ...]  # those that matter to inference
    kernel: str
    python: str
    packages: dict[str, str]
    threads: dict[str, str]  # variables that set them
    load_1m: float  # before the run: whether the machine was quiet


class Corpus(Result, frozen=True, kw_only=True):
    """What was searched."""

    videos: int
    segments: int
    complete: bool = True  # False: there are more than were counted


class Generator(Result, frozen=True, kw_only=True):
    """How well the generator did."""

    processes: int
    requests: int
    lateness_ms: dict[str, float]
    lateness_limit_ms: float
    cores_used: float
    most_in_flight: int


class Figures(Result, frozen=True, kw_only=True):
    """What was measured of one target."""

    target: str
    kind: str
    requests: int
    ok: int
    degraded: int
    failed: int
    hung: int
    offered_per_s: float
    answered_per_s: float
    goodput_per_s: float  # answered within the SLO's latency for p99, or its largest one
    latency_ms: dict[str, float]  # of the answered, from the scheduled start
    p99_interval_ms: tuple[float, float] | None  # 95 %
    first_answer_s: float | None
    recall: float | None = None  # of whole answers, against a calm search
    recall_degraded: float | None = None
    recall_samples: int = 0

    @property
    def answered(self) -> int:
        """Requests with an answer, whole or degraded."""
        return self.ok + self.degraded


class SloVerdict(Result, frozen=True, kw_only=True):
    """Whether one promise was kept."""

    what: str  # "search_text p99"
    objective: str  # "≤ 100 ms"
    measured: float | None  # None: there was nothing to measure, or no end to it
    unit: str
    held: bool
    budget_used: float | None = None  # violations as a share of those allowed


class FaultResult(Result, frozen=True, kw_only=True):
    """What a fault did."""

    what: str  # "kill triton: tritonserver (4711)"
    at_s: float
    end_s: float
    recovery_s: float | None  # until full quality, from the fault's end; None: not in this run
    requests: int  # from the fault until full quality
    answered: int
    degraded: int
    failed: int
    hung: int


class StageFigures(Result, frozen=True, kw_only=True):
    """One stage of a target's answers."""

    target: str
    stage: str
    latency_ms: dict[str, float]


class RunResult(Result, frozen=True, kw_only=True):
    """One run."""

    scenario: Scenario
    verdict: Verdict
    why: tuple[str, ...]  # of broken or invalid
    notes: tuple[str, ...]  # what a reader must know
    seed: int
    started_at: str  # RFC 3339, UTC
    duration_s: float  # of the measured part, as it was run
    url: str
    profile: str
    model_version: str
    random_weights: bool
    machine: Machine
    corpus: Corpus | None
    cache_hit_ratio: float | None
    generator: Generator
    targets: tuple[Figures, ...]
    stages: tuple[StageFigures, ...]
    slo: tuple[SloVerdict, ...]
    faults: tuple[FaultResult, ...]
    errors: dict[str, int]
    offered_profile_per_s: tuple[float, ...]
    series: dict[str, Series]  # by target; "all": together
    curves: dict[str, tuple[tuple[float, float], ...]]  # by target: percentile, ms
    models: tuple[ModelLoad, ...]
    queue: tuple[QueuePoint, ...]
    processes: tuple[ProcessSeries, ...]
    format: int = FORMAT

    @property
    def exit_code(self) -> int:
        """0: held, 1: broken, 2: invalid."""
        return EXIT_CODES[self.verdict]


def encode(result: RunResult) -> bytes:
    """Return a result as JSON."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1)


def read_result(folder: Path) -> RunResult:
    """Read a run's result from its folder, or from the file itself.

    Raises:
        ConfigurationError: there is none, or it is of another version.
    """
    path = folder / RESULT_FILE if folder.is_dir() else folder
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunResult)
    except OSError as error:
        raise ConfigurationError(f"there is no result in {folder}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"{path} is no result of this version: {error}") from error


def read_histograms(folder: Path) -> dict[str, list[HdrHistogram]]:
    """Read a run's histograms, one a second, by target.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    logs = sorted((folder / HISTOGRAM_FOLDER).glob("*.hlog"))
    try:
        return {log.stem: read_log(log) for log in logs}
    except (OSError, ValueError) as error:
        raise ConfigurationError(str(error)) from error
