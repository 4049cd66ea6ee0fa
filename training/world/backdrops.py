"""What lies behind and before the figures: backgrounds, weather, light, for many pictures. Pure."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from training.world.scenes import SEGMENT_S, Look

DARK = 0.6  # brightness of the dark half of a background's pattern
ZOOM = 1.9  # between the start and the end of a camera's zoom
PAN = 1.2  # half heights that a camera pans over in a segment
NIGHT = (0.46, 0.46, 0.58)
FOG, FOG_GREY = 0.42, 0.72
RAIN_LIGHT, SNOW_LIGHT = 0.45, 0.95
RAIN_SPEED, SNOW_SPEED = 3.0, 0.5  # half heights a second

Pattern = Callable[[Tensor, Tensor, Tensor], Tensor]


def paint(
    looks: Sequence[Look], times_s: Sequence[float], x: Tensor, y: Tensor, shades: Tensor
) -> Tensor:
    """Paint backgrounds.

    Args:
        looks: what to paint.
        times_s: one a look.
        x: (height, width), and y.
        y: see x.
        shades: (looks, 3), 0 … 1.

    Returns:
        (looks, 3, height, width), 0 … 1.
    """
    scale, shift = _camera(looks, times_s)
    chances = _chances(looks)
    dark = torch.zeros(len(looks), *x.shape)
    for kind, pattern in PATTERNS.items():
        rows = [i for i, look in enumerate(looks) if look.background == kind]
        if rows:
            u = x * scale[rows] + shift[rows]
            dark[rows] = pattern(u, y * scale[rows], chances[rows])
    return shades[:, :, None, None] * (1 - (1 - DARK) * dark[:, None])


def weather(
    picture: Tensor, looks: Sequence[Look], times_s: Sequence[float], x: Tensor, y: Tensor
) -> None:
    """Put weather and light over pictures (looks, 3, height, width), in place."""
    chances = _chances(looks)
    times = torch.tensor(times_s, dtype=torch.float32)[:, None, None]
    for kind, light, flakes in (("rain", RAIN_LIGHT, _rain), ("snow", SNOW_LIGHT, _snow)):
        rows = [i for i, look in enumerate(looks) if look.weather == kind]
        if rows:
            cover = flakes(x[None], y[None], times[rows], chances[rows])
            over = torch.full((), light)
            picture[rows] = torch.lerp(picture[rows], over, cover[:, None])
    foggy = [i for i, look in enumerate(looks) if look.weather == "fog"]
    if foggy:
        picture[foggy] = torch.lerp(picture[foggy], torch.full((), FOG_GREY), FOG)
    nightly = [i for i, look in enumerate(looks) if look.light == "night"]
    if nightly:
        picture[nightly] *= torch.tensor(NIGHT)[:, None, None]


def _camera(looks: Sequence[Look], times_s: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return how much finer the pattern is, and how far it is shifted: (looks, 1, 1) both."""
    scales, shifts = [], []
    for look, time_s in zip(looks, times_s, strict=True):
        at = min(1.0, max(0.0, time_s / SEGMENT_S))
        zoom = {"zooms in": 0.5 - at, "zooms out": at - 0.5}.get(look.camera, 0.0)
        scales.append(ZOOM**zoom)
        shifts.append(PAN * at if look.camera == "pans" else 0.0)
    return torch.tensor(scales)[:, None, None], torch.tensor(shifts)[:, None, None]


def _chances(looks: Sequence[Look]) -> Tensor:
    """Return eight numbers 0 … 1 that are each look's own: (looks, 8)."""
    drawn = [np.random.default_rng((look.seed, 1)).random(8) for look in looks]
    return torch.tensor(np.stack(drawn), dtype=torch.float32)


def _phase(chances: Tensor, which: int) -> Tensor:
    return 2 * torch.pi * chances[:, which, None, None]


def _gradient(_: Tensor, y: Tensor, chances: Tensor) -> Tensor:
    return (y + 1) / 2 * (1 - 0.15 * chances[:, 0, None, None])


def _stripes(x: Tensor, y: Tensor, chances: Tensor) -> Tensor:
    slope = (chances[:, 1, None, None] - 0.5) * 0.6
    return (0.5 + 4 * torch.sin(11 * (x + slope * y) + _phase(chances, 0))).clamp(0, 1)


def _checks(x: Tensor, y: Tensor, chances: Tensor) -> Tensor:
    waves = torch.sin(7.5 * x + _phase(chances, 0)) * torch.sin(7.5 * y + _phase(chances, 1))
    return (0.5 + 6 * waves).clamp(0, 1)


def _dots(x: Tensor, y: Tensor, chances: Tensor) -> Tensor:
    u = torch.remainder(x + chances[:, 0, None, None], 0.4) - 0.2
    v = torch.remainder(y + chances[:, 1, None, None], 0.4) - 0.2
    return ((0.115 - torch.hypot(u, v)) * 30 + 0.5).clamp(0, 1)


def _clouds(x: Tensor, y: Tensor, chances: Tensor) -> Tensor:
    bend = torch.sin(2.1 * y + _phase(chances, 0)) + 0.6 * torch.sin(3.7 * x + _phase(chances, 1))
    waves = torch.sin(2.9 * x + 1.4 * bend + _phase(chances, 2))
    waves = waves + torch.sin(3.3 * y + 1.2 * bend + _phase(chances, 3))
    fine = torch.sin(8 * x + 3 * bend + _phase(chances, 4)) * torch.sin(7 * y - 2 * bend)
    return (0.5 + 0.3 * waves + 0.15 * fine).clamp(0, 1)


PATTERNS: dict[str, Pattern] = {  # 0 … 1, how dark; what is missing is plain
    "gradient": _gradient,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "clouds": _clouds,
}


def _rain(x: Tensor, y: Tensor, times_s: Tensor, chances: Tensor) -> Tensor:
    """Thin slanting streaks, (looks, height, width): 0 … 1."""
    column = 9 * (x + 0.22 * y) + chances[:, 0, None, None]
    lane = torch.floor(column)
    thin = ((0.13 - (column - lane - 0.5).abs()) * 9).clamp(0, 1)
    fall = 1.6 * (y - RAIN_SPEED * times_s) + _hash(lane, chances)
    return thin * ((torch.remainder(fall, 1.0) - 0.45) * 6).clamp(0, 1) * 0.85


def _snow(x: Tensor, y: Tensor, times_s: Tensor, chances: Tensor) -> Tensor:
    """Scattered flakes, (looks, height, width): 0 … 1."""
    u, v = 4.5 * x, 4.5 * (y - SNOW_SPEED * times_s) + 7 * chances[:, 1, None, None]
    column, row = torch.floor(u), torch.floor(v)
    off = 0.3 * (_hash(column + 17 * row, chances) - 0.5)
    away = torch.hypot(u - column - 0.5 - off, v - row - 0.5 + off)
    return ((0.16 - away) * 9).clamp(0, 1)


def _hash(cells: Tensor, chances: Tensor) -> Tensor:
    """Return a number 0 … 1 for each cell that looks random."""
    return torch.remainder(torch.sin(cells * 12.9898 + chances[:, 2, None, None]) * 437.585, 1.0)
