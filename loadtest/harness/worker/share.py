"""What one process of the generator is given, and what it says back. Travels as pickles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ensembles.arrays import Float64Array, Int32Array, UInt8Array
from loadtest.harness.records import Records
from loadtest.harness.scenario import Target

MAX_IN_FLIGHT = 50_000  # of one process; more are not sent, and the run is invalid
TOO_MANY_IN_FLIGHT = "the generator had too many requests in flight"


@dataclass(frozen=True)
class Share:
    """One process' part of a run."""

    process: int
    targets: Sequence[Target]
    items: Sequence[Sequence[Any]]  # by target: its payloads; `item` counts modulo their number
    times_s: Float64Array  # (n,) from the start; ascending
    which: UInt8Array  # (n,)
    item: Int32Array  # (n,)
    url: str  # of the gateway
    triton: str  # HOST:PORT
    run_id: str  # makes what is uploaded this run's own
    clients: int = 0  # of a closed loop; 0: open loop
    warm_up_s: float = 0.0  # of a closed loop
    duration_s: float = 0.0  # of a closed loop's measured part


# ---- what a process says ------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """It waits for the start."""


@dataclass(frozen=True)
class Broken:
    """It cannot go on."""

    reason: str


@dataclass(frozen=True)
class Sample:
    """What an answer under load held, to be compared with a calm one."""

    target: int
    item: int
    degraded: bool
    found: tuple[str, ...]  # segment ids, best first


@dataclass(frozen=True)
class Batch:
    """What was noted since the last one."""

    records: Records
    errors: Mapping[str, int]  # reasons of failures
    in_flight: int


@dataclass(frozen=True)
class Done:
    """Everything was answered or given up."""

    cpu_s: float  # that this process used since the start
    wall_s: float
    samples: Sequence[Sample] = field(default=())
    made: Sequence[str] = field(default=())  # ids of videos that were uploaded
    model_version: str = ""  # as replies tell it
    random_weights: bool = False


Message = Ready | Broken | Batch | Done


@dataclass(frozen=True)
class Go:
    """The start, on the machine's monotonic clock."""

    start_s: float


NO_STAGES = (float(np.nan),) * 5
