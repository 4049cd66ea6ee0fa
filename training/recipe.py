"""How the mini family is trained: every size and rate, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The sizes of a training run."""

    pictures: int = 96  # in a step of the towers
    sounds: int = 24
    tower_steps: int = 2000
    tower_rate: float = 1.5e-3
    segments: int = 4_000  # whose tokens fusion is trained on
    frames: int = 6  # drawn of each
    windows: int = 2  # played of each
    fusion_batch: int = 160
    fusion_steps: int = 800
    fusion_rate: float = 1.5e-3


FULL = Recipe()
TINY = Recipe(
    pictures=8,
    sounds=4,
    tower_steps=4,
    segments=16,
    frames=2,
    windows=1,
    fusion_batch=8,
    fusion_steps=4,
)
