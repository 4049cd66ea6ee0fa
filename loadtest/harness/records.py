"""What is noted of each request: columns of numbers, so that a long run stays small. Pure."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Outcome(IntEnum):
    """How a request ended."""

    OK = 0  # a whole answer
    DEGRADED = 1  # an answer that says what it left out
    FAILED = 2  # an error, a refusal, a broken connection, or something that is no answer
    HUNG = 3  # nothing within the target's time limit


STAGES = ("embed", "legs", "catalogue", "gateway", "total")  # of a search, from its reply
UPLOAD_STAGES = ("accepted", "analysed")  # of an upload, as its client sees them
MAX_STAGES = len(STAGES)

# 48 bytes a request.
RECORD = np.dtype(
    [
        ("target", np.uint8),  # index into the scenario's targets
        ("outcome", np.uint8),
        ("process", np.uint16),  # of the generator
        ("scheduled_s", np.float64),  # from the measured part's start; negative: warm-up
        ("lateness_s", np.float32),  # when it was sent, from when it should have been
        ("latency_s", np.float64),  # from the scheduled start until the answer was whole
        ("stages_ms", np.float32, (MAX_STAGES,)),  # NaN where the answer tells none
    ]
)

Records = NDArray[np.void]  # of dtype RECORD


def no_records() -> Records:
    """Return an empty table."""
    return np.empty(0, dtype=RECORD)


def measured(records: Records) -> Records:
    """Return the records without the warm-up's."""
    return records[records["scheduled_s"] >= 0]


def answered(records: Records) -> Records:
    """Return the records of requests that got an answer, whole or degraded."""
    return records[records["outcome"] <= Outcome.DEGRADED]
