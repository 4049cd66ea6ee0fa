"""Contrastive training with early stopping, that an interruption costs one epoch at most.

After each epoch everything that the next one depends on is written at once: weights, optimiser,
what was best so far. The order of the pairs depends on seed and epoch alone, so a run that was
interrupted and resumed ends with the same weights as one that was not.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from gateway.errors import ConfigurationError
from training.tuning.examples import Int64Array

START_TEMPERATURE = 0.07  # as in CLIP (Radford et al. 2021)
MAX_SCALE = 100.0
PASSED_OVER = -1e4  # the logit of what another pair of the same query names


class FitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to train."""

    epochs: Annotated[int, Meta(ge=1)] = 60
    batch: Annotated[int, Meta(ge=2)] = 64
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    weight_decay: Annotated[float, Meta(ge=0)] = 0.01
    patience: Annotated[int, Meta(ge=1)] = 8  # epochs without a better one before it stops
    seed: int = 1


class Epoch(msgspec.Struct, frozen=True):
    """What one epoch came to."""

    number: int  # from 1
    loss: float
    ndcg_10: float  # on the validation pairs


class Fitted(msgspec.Struct, frozen=True):
    """What training came to; the scorer holds the best epoch's weights."""

    best_epoch: int  # 0: no epoch was better than the start
    epochs: tuple[Epoch, ...]
    start_ndcg_10: float  # on the validation pairs, before training


Progress = Callable[[Epoch, FitSettings], None]


class Task(Protocol):
    """What is trained."""

    module: nn.Module  # its weights that require a gradient are trained
    pairs: Int64Array  # (pairs, 2) a query and what it is to find

    def loss(self, pairs: Int64Array) -> Tensor:
        """Return the loss of a batch of pairs (n, 2)."""
        ...

    def ndcg(self) -> float:
        """Return how good the module is on the validation pairs."""
        ...


def fit(task: Task, settings: FitSettings, checkpoint: Path, progress: Progress) -> Fitted:
    """Train until the validation nDCG@10 has stopped rising; the best epoch's weights stay.

    Args:
        task: its module is changed.
        settings: rates and bounds.
        checkpoint: a file, written after each epoch; where it is there, training goes on from it.
        progress: told of each epoch.

    Raises:
        ConfigurationError: the loss is no number any more, or the checkpoint is of another model.
    """
    optimiser = torch.optim.AdamW(
        _trained(task.module).values(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    state = _start(task, optimiser, checkpoint)
    while state.epoch < settings.epochs and state.epoch - state.best_epoch < settings.patience:
        loss = _train_epoch(task, optimiser, settings, state.epoch, checkpoint)
        epoch = Epoch(state.epoch + 1, loss, task.ndcg())
        state = state.after(epoch, task.module)
        _save(checkpoint, state, task.module, optimiser)
        progress(epoch, settings)
    _load(task.module, state.best)
    return Fitted(state.best_epoch, state.epochs, state.start_ndcg)


def info_nce(scores: Tensor, log_scale: Tensor, also_right: NDArray[np.bool_]) -> Tensor:
    """Return the symmetric InfoNCE of a batch (van den Oord et al. 2018, as in CLIP).

    Args:
        scores: (n, n) of queries with what is found; the diagonal is right.
        log_scale: logarithm of what they are multiplied with.
        also_right: (n, n) what else is right, which is then no negative.
    """
    others = also_right & ~np.eye(len(scores), dtype=bool)
    logits = scores * log_scale.exp().clamp(max=MAX_SCALE)
    logits = logits.masked_fill(torch.from_numpy(others), PASSED_OVER)
    right = torch.arange(len(scores))
    return (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2


# ---- one epoch ----------------------------------------------------------------------------------


def _train_epoch(
    task: Task,
    optimiser: torch.optim.Optimizer,
    settings: FitSettings,
    epoch: int,
    checkpoint: Path,
) -> float:
    """Go through all pairs once; returns the mean loss."""
    task.module.train()
    losses = []
    for step, pairs in enumerate(_batches(task.pairs, settings, epoch)):
        loss = task.loss(pairs)
        if not torch.isfinite(loss):
            raise ConfigurationError(_diverged(loss.item(), epoch, step, checkpoint, settings))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def _batches(pairs: Int64Array, settings: FitSettings, epoch: int) -> Iterator[Int64Array]:
    """Yield the pairs (n, 2) in a new order; a batch that finds one thing teaches nothing."""
    order = np.random.default_rng((settings.seed, epoch)).permutation(len(pairs))
    for start in range(0, len(order), settings.batch):
        part = pairs[order[start : start + settings.batch]]
        if len(np.unique(part[:, 1])) > 1:
            yield part


def _diverged(loss: float, epoch: int, step: int, checkpoint: Path, settings: FitSettings) -> str:
    kept = f"the last good weights, of epoch {epoch}, are in {checkpoint}"
    return (
        f"the loss became {loss} in epoch {epoch + 1}, step {step + 1}; "
        f"{kept if checkpoint.is_file() else 'no epoch was finished before it'}. Train with a "
        f"lower --learning-rate than {settings.learning_rate:g}"
    )


# ---- checkpoints --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _State:
    """How far training is."""

    epochs: tuple[Epoch, ...]  # those that are done
    best_epoch: int
    best_ndcg: float
    start_ndcg: float
    best: Mapping[str, Tensor]  # weights

    @property
    def epoch(self) -> int:
        return len(self.epochs)

    def after(self, epoch: Epoch, module: nn.Module) -> "_State":
        epochs = (*self.epochs, epoch)
        if epoch.ndcg_10 > self.best_ndcg:
            return _State(epochs, epoch.number, epoch.ndcg_10, self.start_ndcg, _weights(module))
        return replace(self, epochs=epochs)


def _start(task: Task, optimiser: torch.optim.Optimizer, checkpoint: Path) -> _State:
    if checkpoint.is_file():
        return _resume(checkpoint, task.module, optimiser)
    ndcg = task.ndcg()
    return _State((), 0, ndcg, ndcg, _weights(task.module))


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in _trained(module).items()}


@torch.no_grad()
def _load(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set the trained weights; raises `KeyError` where one is missing."""
    for name, weight in _trained(module).items():
        weight.copy_(weights[name])


def _save(path: Path, state: _State, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Write a checkpoint; a crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    stored: dict[str, Any] = {
        "epochs": [(epoch.number, epoch.loss, epoch.ndcg_10) for epoch in state.epochs],
        "best_epoch": state.best_epoch,
        "best_ndcg": state.best_ndcg,
        "start_ndcg": state.start_ndcg,
        "best": dict(state.best),
        "weights": _weights(module),
        "optimiser": optimiser.state_dict(),
    }
    try:
        with partial.open("wb") as file:
            torch.save(stored, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _resume(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> _State:
    try:
        stored = torch.load(path, weights_only=True)
        _load(module, stored["weights"])
        optimiser.load_state_dict(stored["optimiser"])
        epochs = tuple(Epoch(*epoch) for epoch in stored["epochs"])
        told = (stored[name] for name in ("best_epoch", "best_ndcg", "start_ndcg", "best"))
        return _State(epochs, *told)
    except Exception as error:  # torch raises whatever a damaged file makes it stumble over
        raise ConfigurationError(
            f"{path} is no checkpoint of this training ({type(error).__name__}): remove it to "
            "begin anew"
        ) from error
