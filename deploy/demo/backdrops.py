"""Procedural textures for the demo scenes: pure, seeded. 0 is their darkest, 1 their lightest."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from deploy.demo.topics import Backdrop

Bytes = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]

MARGIN = 1.5  # a backdrop is this much larger than the picture, so that it can pan and zoom
CENTRE = (1.3, 0.5)  # of rays, rings and spirals: the middle of the picture before it pans


def backdrop(kind: Backdrop, size: tuple[int, int], random: np.random.Generator) -> Bytes:
    """Return a texture, larger than `size` by `MARGIN`: 0 is its darkest, 255 its lightest."""
    width, height = round(size[0] * MARGIN), round(size[1] * MARGIN)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / size[1]  # in heights of the picture
    return np.asarray(_BACKDROPS[kind](x, y, random).clip(0, 1) * 255, np.uint8)


def _bricks(x: Field, y: Field, random: np.random.Generator) -> Field:
    row = np.floor(y * 8)
    along = x * 4 + 0.5 * (row % 2)
    shade = random.random((64, 64), np.float32)[row.astype(int) % 64, along.astype(int) % 64]
    mortar = (along % 1 < 0.06) | (y * 8 % 1 < 0.12)
    return np.where(mortar, 0.05, 0.4 + 0.5 * shade)


def _cells(x: Field, y: Field, random: np.random.Generator) -> Field:
    """Voronoi cells: how far the nearest of a jittered grid's points is, less at the borders."""
    scale, near, next_near = 5.0, np.full_like(x, 9.0), np.full_like(x, 9.0)
    points = random.random((32, 32, 2), np.float32)
    column, row = np.floor(x * scale), np.floor(y * scale)
    for shift_y in (-1, 0, 1):
        for shift_x in (-1, 0, 1):
            j, i = row + shift_y, column + shift_x
            offset = points[j.astype(int) % 32, i.astype(int) % 32]
            away = np.hypot(x * scale - i - offset[..., 0], y * scale - j - offset[..., 1])
            next_near = np.minimum(next_near, np.maximum(near, away))
            near = np.minimum(near, away)
    return (next_near - near) * 1.4


def _checker(x: Field, y: Field, _: np.random.Generator) -> Field:
    return np.asarray((np.floor(x * 5) + np.floor(y * 5)) % 2 * 0.85 + 0.1, np.float32)


def _dots(x: Field, y: Field, _: np.random.Generator) -> Field:
    row = np.floor(y * 7)
    return 1.3 - 2.6 * np.hypot((x * 7 + 0.5 * (row % 2)) % 1 - 0.5, y * 7 % 1 - 0.5)


def _grain(x: Field, y: Field, random: np.random.Generator) -> Field:
    return 0.5 + 0.9 * (_smooth(x, y, random, 3) * 0.6 + _smooth(x * 3, y, random, 9) * 0.6)


def _hexagons(x: Field, y: Field, _: np.random.Generator) -> Field:
    """How far the nearest centre of a hexagonal grid is, in the grid's own metric."""
    tall = np.float32(np.sqrt(3))
    a = _hexagon_edge((x * 7) % 1 - 0.5, (y * 7 / tall) % 1 * tall - tall / 2)
    b = _hexagon_edge((x * 7 + 0.5) % 1 - 0.5, (y * 7 / tall + 0.5) % 1 * tall - tall / 2)
    return (0.5 - np.minimum(a, b)) * 5


def _hexagon_edge(x: Field, y: Field) -> Field:
    return np.asarray(
        np.maximum(np.abs(x), np.abs(x) / 2 + np.abs(y) * np.float32(np.sqrt(3) / 2)), np.float32
    )


def _hills(x: Field, y: Field, random: np.random.Generator) -> Field:
    picture = 1.0 - 0.25 * y
    for layer in range(5):
        bumps = _smooth(x * (1 + layer), np.zeros_like(y), random, 4) * 0.45 / (1 + 0.3 * layer)
        picture = np.where(y > 0.3 + 0.2 * layer - bumps, 0.7 - 0.16 * layer, picture)
    return picture


def _keys(x: Field, y: Field, _: np.random.Generator) -> Field:
    key, within = np.floor(x * 9), x * 9 % 1
    after_black = np.isin(key % 7, (1, 2, 4, 5, 6)) & (within < 0.3)
    before_black = np.isin(key % 7, (0, 1, 3, 4, 5)) & (within > 0.7)
    black = (after_black | before_black) & (y % 1.1 < 0.6)
    return np.where(black, 0.0, np.where(within < 0.03, 0.3, 1.0 - 0.15 * (y % 1.1)))


def _leaves(x: Field, y: Field, random: np.random.Generator) -> Field:
    row = np.floor(y * 4)
    column = np.floor(x * 3 + 0.5 * (row % 2))
    u, v = (x * 3 + 0.5 * (row % 2)) % 1 - 0.5, y * 4 % 1 - 0.5
    tilt = np.where((row + column) % 2, 0.6, -0.6)
    along, across = u + tilt * v, v - tilt * u
    tone = random.random((32, 32), np.float32)[row.astype(int) % 32, column.astype(int) % 32]
    inside = np.abs(across) < 0.34 * (1 - 3.5 * along**2)
    vein = np.abs(across) < 0.02
    return np.where(inside, np.where(vein, 1.0, 0.45 + 0.45 * tone), 0.08)


def _plasma(x: Field, y: Field, random: np.random.Generator) -> Field:
    bend = 2 * _smooth(x, y, random, 2)
    swirls = np.sin(6 * x + 3 * bend) + np.sin(5 * y + 4 * bend + 2 * np.sin(3 * x))
    return np.asarray(0.5 + 0.25 * swirls, np.float32)


def _rays(x: Field, y: Field, _: np.random.Generator) -> Field:
    return np.asarray(
        np.arctan2(y - CENTRE[1], x - CENTRE[0]) / np.float32(2 * np.pi) * 12 % 1, np.float32
    )


def _rings(x: Field, y: Field, _: np.random.Generator) -> Field:
    return np.asarray(np.hypot(x - CENTRE[0], y - CENTRE[1]) * 4 % 1, np.float32)


def _sky(x: Field, y: Field, random: np.random.Generator) -> Field:
    return y + 0.12 * _smooth(x, y * 3, random, 3)


def _spiral(x: Field, y: Field, _: np.random.Generator) -> Field:
    turn = np.arctan2(y - CENTRE[1], x - CENTRE[0]) / np.float32(2 * np.pi)
    return np.asarray(
        (turn * 3 + 2.5 * np.log(np.hypot(x - CENTRE[0], y - CENTRE[1]) + 0.05)) % 1, np.float32
    )


def _stars(x: Field, y: Field, random: np.random.Generator) -> Field:
    picture = 0.12 + 0.25 * _smooth(x, y, random, 2)
    rows, columns = x.shape
    for size in (1, 2, 3):
        for _ in range(260 // size):
            j, i = random.integers(rows - size), random.integers(columns - size)
            picture[j : j + size, i : i + size] = 0.6 + 0.4 * random.random()
    return picture


def _stripes(x: Field, y: Field, _: np.random.Generator) -> Field:
    return np.asarray(np.floor((x + 0.6 * y) * 6) % 3 / 2, np.float32)


def _waves(x: Field, y: Field, random: np.random.Generator) -> Field:
    swell = 0.05 * np.sin(9 * x) + 0.08 * _smooth(x, y, random, 4)
    return np.asarray((y + swell) * 5 % 1, np.float32)


def _weave(x: Field, y: Field, _: np.random.Generator) -> Field:
    over = (np.floor(x * 10) + np.floor(y * 10)) % 2
    u, v = x * 10 % 1 - 0.5, y * 10 % 1 - 0.5
    return np.where(over, 1.0 - 2.2 * u**2, 0.6 - 2.2 * v**2)


def _smooth(x: Field, y: Field, random: np.random.Generator, scale: int) -> Field:
    """Return value noise, −1…1: a random grid of `scale` points a height, interpolated."""
    grid = random.random((64, 64), np.float32) * 2 - 1
    across, down = x * scale, y * scale
    i, j = np.floor(across).astype(int), np.floor(down).astype(int)
    u, v = across - i, down - j
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    i, j = i % 63, j % 63
    above = grid[j, i] * (1 - u) + grid[j, i + 1] * u
    below = grid[j + 1, i] * (1 - u) + grid[j + 1, i + 1] * u
    return np.asarray(above * (1 - v) + below * v, np.float32)


_BACKDROPS: dict[Backdrop, Callable[[Field, Field, np.random.Generator], Field]] = {
    "bricks": _bricks,
    "cells": _cells,
    "checker": _checker,
    "dots": _dots,
    "grain": _grain,
    "hexagons": _hexagons,
    "hills": _hills,
    "keys": _keys,
    "leaves": _leaves,
    "plasma": _plasma,
    "rays": _rays,
    "rings": _rings,
    "sky": _sky,
    "spiral": _spiral,
    "stars": _stars,
    "stripes": _stripes,
    "waves": _waves,
    "weave": _weave,
}
