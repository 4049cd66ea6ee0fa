"""Looks into pixels: shapes as signed distances, drawn many at a time. Pure.

Coordinates: x to the right and y downwards, the picture's height from −1 to 1, so that the square
in the middle, which is all that an encoder sees, is −1 … 1 both ways. All figures stay inside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, sin

import numpy as np
import torch
from torch import Tensor

from ensembles.arrays import UInt8Array
from training.world import backdrops
from training.world.scenes import ACROSS, DOWN, SEGMENT_S, SIZES, Look

PALETTE = {
    "red": (0.86, 0.10, 0.12),
    "orange": (0.96, 0.52, 0.06),
    "yellow": (0.95, 0.87, 0.12),
    "green": (0.12, 0.62, 0.20),
    "blue": (0.12, 0.28, 0.86),
    "purple": (0.50, 0.14, 0.66),
    "pink": (0.97, 0.52, 0.72),
    "white": (0.95, 0.95, 0.93),
}
SHADE_JITTER = 0.05  # of a colour's channels
RADII = dict(zip(SIZES, (0.24, 0.34, 0.48), strict=True))  # in half heights of the picture
COMPANION_RADIUS, COVERED_RADIUS = 0.27, 0.42
PLACE = 0.5  # of the outer places in the grid of nine
SPREAD = 2.25  # radii between neighbours where there are two or three
TRAVEL = 0.5  # how far from the middle a motion begins and ends
DARK_MARK = 0.30  # brightness of the dark half of a texture
SLOTS = 4  # up to three figures and one companion

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where one shape is in one picture."""

    shape: str
    colour: tuple[float, float, float]
    texture: str
    x: float
    y: float
    radius: float
    tilt: float


@dataclass(frozen=True, slots=True)
class Geometry:
    """What of a picture can be measured: the figure's middle and radius, at one time."""

    x: float
    y: float
    radius: float


def draw(look: Look, times_s: Sequence[float], size_px: tuple[int, int]) -> UInt8Array:
    """Draw a look at several times.

    Args:
        look: what to draw.
        times_s: since the segment's start; a motion ends at SEGMENT_S.
        size_px: height and width.

    Returns:
        (times, 3, height, width) RGB.
    """
    pixels = draw_batch([look] * len(times_s), times_s, size_px)
    return np.asarray(pixels.numpy())


def draw_batch(looks: Sequence[Look], times_s: Sequence[float], size_px: tuple[int, int]) -> Tensor:
    """Draw looks, each at a time of its own: (looks, 3, height, width) uint8."""
    height, width = size_px
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height * 2 - 1,
        ((torch.arange(width) + 0.5) - width / 2) / height * 2,
        indexing="ij",
    )
    with torch.no_grad():
        picture = backdrops.paint(looks, times_s, x, y, _shades(looks))
        placed = [place(look, t) for look, t in zip(looks, times_s, strict=True)]
        for slot in range(SLOTS):
            _draw_slot(picture, [row[slot] if slot < len(row) else None for row in placed], x, y)
        backdrops.weather(picture, looks, times_s, x, y)
        return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def _shades(looks: Sequence[Look]) -> Tensor:
    return torch.tensor([_shade(look.background_colour, _jitters(look)[:3]) for look in looks])


def _jitters(look: Look) -> list[float]:
    """Return a dozen numbers −1 … 1 that are this look's own."""
    drawn: list[float] = np.random.default_rng(look.seed).uniform(-1, 1, 12).tolist()
    return drawn


def _shade(colour: str, jitter: Sequence[float]) -> tuple[float, float, float]:
    r, g, b = (c + SHADE_JITTER * j for c, j in zip(PALETTE[colour], jitter, strict=True))
    return r, g, b


def progress(time_s: float) -> float:
    """Return how far a motion is: 0 … 1."""
    return min(1.0, max(0.0, time_s / SEGMENT_S))


def geometry(look: Look, time_s: float) -> Geometry:
    """Return the figure's middle and radius; all zero where there is no figure."""
    if look.figure is None:
        return Geometry(0.0, 0.0, 0.0)
    jitter, at = _jitters(look), progress(time_s)
    x, y = _middle(look, jitter)
    radius = RADII[look.figure.size] * (1 + 0.07 * jitter[3])
    way = (2 * at - 1) * (TRAVEL + 0.06 * jitter[4])
    if look.motion in ("left", "right"):
        x = way if look.motion == "right" else -way
    elif look.motion in ("up", "down"):
        y = way if look.motion == "down" else -way
    elif look.motion in ("grows", "shrinks"):
        growth = at if look.motion == "grows" else 1 - at
        radius = RADII["small"] * 0.75 * (2.6 + 0.2 * jitter[3]) ** growth
    return Geometry(x, y, radius)


def _middle(look: Look, jitter: Sequence[float]) -> tuple[float, float]:
    """Return where the figure's middle is when it does not move."""
    assert look.figure is not None
    dx, dy = 0.07 * jitter[5], 0.07 * jitter[6]
    if look.companion is not None:
        sideways = {"left of": -0.42, "right of": 0.42}.get(look.companion.relation, 0.0)
        upright = {"above": -0.42, "below": 0.42}.get(look.companion.relation, 0.0)
        return sideways + dx, upright + dy
    if look.motion != "still" or look.figure.number != "one":
        return 3 * dx, 3 * dy
    steps = (-PLACE, 0.0, PLACE)
    return steps[ACROSS.index(look.figure.across)] + dx, steps[DOWN.index(look.figure.down)] + dy


def place(look: Look, time_s: float) -> list[Placed]:
    """Return the shapes of a picture, the hindmost first."""
    if look.figure is None:
        return []
    jitter, middle = _jitters(look), geometry(look, time_s)
    colour = _shade(look.figure.colour, jitter[7:10])
    behind = [_companion(look, jitter)] if look.companion else []
    count = ("one", "two", "three").index(look.figure.number) + 1
    in_column = look.motion in ("left", "right")  # across the way, so that none leaves the picture
    radius = min(middle.radius, 1.9 / (SPREAD * (count - 1) + 2))
    figures = []
    for number in range(count):
        off = (number - (count - 1) / 2) * SPREAD * radius
        x, y = (middle.x, off) if in_column else (off, middle.y)
        x, y = (middle.x, middle.y) if count == 1 else (x, y)
        figure = look.figure
        tilt = 0.15 * jitter[10]
        figures.append(Placed(figure.shape, colour, figure.texture, x, y, radius, tilt))
    return behind + figures


def _companion(look: Look, jitter: Sequence[float]) -> Placed:
    assert look.companion is not None
    colour = _shade(look.companion.colour, jitter[8:11])
    x = {"left of": 0.5, "right of": -0.5}.get(look.companion.relation, 0.15 * jitter[11])
    y = {"above": 0.5, "below": -0.5}.get(look.companion.relation, 0.15 * jitter[10])
    radius = COMPANION_RADIUS
    if look.companion.relation == "in front of":
        x, y = (0.30 if jitter[11] > 0 else -0.30), 0.22 * jitter[10]
        radius = COVERED_RADIUS
    return Placed(look.companion.shape, colour, "plain", x, y, radius, 0.1 * jitter[9])


def _draw_slot(picture: Tensor, placed: Sequence[Placed | None], x: Tensor, y: Tensor) -> None:
    """Draw at most one shape into each picture, in place."""
    for shape, distance in DISTANCES.items():
        rows = [i for i, p in enumerate(placed) if p is not None and p.shape == shape]
        if rows:
            shapes = [p for p in placed if p is not None and p.shape == shape]
            _draw_shapes(picture, rows, shapes, distance, x, y)


def _draw_shapes(
    picture: Tensor,
    rows: list[int],
    shapes: Sequence[Placed],
    distance: Distance,
    x: Tensor,
    y: Tensor,
) -> None:
    columns = [[p.x, p.y, p.radius, cos(p.tilt), sin(p.tilt)] for p in shapes]
    across, down, radius, cosine, sine = torch.tensor(columns).T[..., None, None]
    dx, dy = (x - across) / radius, (y - down) / radius  # (rows, height, width)
    u, v = cosine * dx + sine * dy, cosine * dy - sine * dx
    sharpness = radius * x.shape[0] / 2  # of an edge: pixels a radius
    cover = (0.5 - distance(u, v) * sharpness).clamp(0, 1)
    colour = torch.tensor([p.colour for p in shapes])[:, :, None, None]
    light = 1 - (1 - DARK_MARK) * _marks([p.texture for p in shapes], u, v, sharpness)
    picture[rows] = torch.lerp(picture[rows], colour * light[:, None], cover[:, None])


def _marks(textures: Sequence[str], u: Tensor, v: Tensor, sharpness: Tensor) -> Tensor:
    """Return how dark a texture is: 0 … 1, (rows, height, width)."""
    marks = torch.zeros_like(u)
    for texture, field in TEXTURES.items():
        rows = [i for i, name in enumerate(textures) if name == texture]
        if rows:
            edge = sharpness[rows] * 0.25
            marks[rows] = (0.5 + field(u[rows], v[rows]) * edge).clamp(0, 1)
    return marks


def _star(x: Tensor, y: Tensor) -> Tensor:
    inner, half = 0.45, torch.pi / 5
    angle = torch.remainder(torch.atan2(x, -y) + half, 2 * half) - half
    angle = angle.abs()
    edge = inner * sin(half) / (torch.sin(angle) + inner * torch.sin(half - angle))
    return (torch.hypot(x, y) - 1.08 * edge) * 0.7


def _heart(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, 0.1 - y - 0.62 * x.abs().sqrt()) - 0.82) * 0.75


def _cross(x: Tensor, y: Tensor) -> Tensor:
    ax, ay = x.abs(), y.abs()
    return torch.minimum(torch.maximum(ax - 0.3, ay - 0.95), torch.maximum(ax - 0.95, ay - 0.3))


DISTANCES: dict[str, Distance] = {  # to the edge in radii, negative inside
    "circle": lambda x, y: torch.hypot(x, y) - 0.95,
    "square": lambda x, y: torch.maximum(x.abs(), y.abs()) - 0.82,
    "triangle": lambda x, y: torch.maximum(y - 0.6, 0.866 * x.abs() - 0.5 * y - 0.52),
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "moon": lambda x, y: torch.maximum(torch.hypot(x, y) - 1, 0.85 - torch.hypot(x - 0.55, y)),
    "ring": lambda x, y: (torch.hypot(x, y) - 0.74).abs() - 0.21,
}
TEXTURES: dict[str, Distance] = {  # over zero where the texture is dark, in radii
    "striped": lambda u, v: torch.sin(8.5 * (u + 0.4 * v)) * 0.25,
    "dotted": lambda u, v: 0.13 - torch.hypot(_cell(u, 0.45), _cell(v, 0.45)),
    "checked": lambda u, v: torch.sin(7.0 * u) * torch.sin(7.0 * v) * 0.4,
}


def _cell(along: Tensor, width: float) -> Tensor:
    return torch.remainder(along + width / 2, width) - width / 2
