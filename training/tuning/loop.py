"""Step after step: the schedule, the checkpoints, and where it stops.

What a step sees depends on the seed and the step alone, so a run that is interrupted and resumed
ends with the same weights as one that is not.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, isfinite, pi
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from gateway.errors import ConfigurationError

BETAS = (0.9, 0.98)  # as in CLIP
WEIGHT_DECAY = 0.05
LARGEST_GRADIENT = 1.0  # norm
WARMING_UP = 0.05  # of the steps
LAST_RATE = 0.02  # of the highest learning rate
CHECKPOINT_STEPS = 50

Progress = Callable[["Step"], None]


@dataclass(frozen=True, slots=True)
class Step:
    """What one step came to."""

    stage: str
    number: int  # from 1
    steps: int
    loss: float
    seconds: float  # since the stage began, earlier runs left out


@dataclass(frozen=True)
class Stage:
    """Something to train."""

    name: str
    module: nn.Module
    backward: Callable[[int], Tensor]  # of a step, from 0: leaves gradients, returns the loss
    steps: int
    rate: float  # the highest


def run(stage: Stage, folder: Path, progress: Progress) -> list[float]:
    """Train a stage to its end, from its checkpoint where there is one.

    Args:
        stage: its module is changed.
        folder: holds `<stage>.pt`.
        progress: told of each step.

    Returns:
        The loss of every step, earlier runs' included.

    Raises:
        ConfigurationError: the loss is no finite number; the checkpoint is of the last good step.
    """
    path = folder / f"{stage.name}.pt"
    optimiser = _optimiser(stage)
    losses = _resume(path, stage, optimiser) if path.exists() else []
    began = perf_counter()
    for number in range(len(losses), stage.steps):
        losses.append(_step(stage, optimiser, number, path))
        if (number + 1) % CHECKPOINT_STEPS == 0 or number + 1 == stage.steps:
            _save(path, stage, optimiser, losses)
        seconds = perf_counter() - began
        progress(Step(stage.name, number + 1, stage.steps, losses[-1], seconds))
    return losses


def rate_share(number: int, steps: int) -> float:
    """Return the share of the highest learning rate at a step: up in a line, down as a cosine."""
    warming = min(1.0, (number + 1) / max(1.0, WARMING_UP * steps))
    cooling = LAST_RATE + (1 - LAST_RATE) * (0.5 + 0.5 * cos(pi * number / steps))
    return warming * cooling


def _optimiser(stage: Stage) -> torch.optim.Optimizer:
    """Return AdamW that does not decay biases, scales and other single rows."""
    trained = [p for p in stage.module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=stage.rate, betas=BETAS)


def _step(stage: Stage, optimiser: torch.optim.Optimizer, number: int, path: Path) -> float:
    for group in optimiser.param_groups:
        group["lr"] = stage.rate * rate_share(number, stage.steps)
    optimiser.zero_grad()
    value = float(stage.backward(number))
    if not isfinite(value):
        kept = f"{path} holds the last good checkpoint" if path.exists() else "none was kept yet"
        raise ConfigurationError(
            f"training {stage.name} stopped at step {number + 1} of {stage.steps}: the loss is "
            f"{value}; {kept}. Try a lower learning rate than {stage.rate}"
        )
    trained = [p for p in stage.module.parameters() if p.requires_grad]
    nn.utils.clip_grad_norm_(trained, LARGEST_GRADIENT)  # not what an earlier stage left on others
    optimiser.step()
    return value


def _save(path: Path, stage: Stage, optimiser: torch.optim.Optimizer, losses: list[float]) -> None:
    """Write a checkpoint: whole or not at all."""
    state = {
        "module": {name: rows.detach() for name, rows in stage.module.named_parameters()},
        "optimiser": optimiser.state_dict(),
        "losses": losses,
        "steps": stage.steps,
    }
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def _resume(path: Path, stage: Stage, optimiser: torch.optim.Optimizer) -> list[float]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state["steps"] != stage.steps:
        raise ConfigurationError(
            f"{path} is of a run of {state['steps']} steps, this one has {stage.steps}: give "
            "another folder, or remove the checkpoint"
        )
    with torch.no_grad():
        for name, rows in stage.module.named_parameters():
            rows.copy_(state["module"][name])
    optimiser.load_state_dict(state["optimiser"])
    losses: list[float] = state["losses"]
    return losses
