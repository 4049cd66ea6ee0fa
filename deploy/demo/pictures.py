"""Procedural pictures for the demo scenes: pure, seeded, drawn straight as YUV 4:2:0."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from deploy.demo.backdrops import Bytes, Field, backdrop
from deploy.demo.topics import Actor, Flight, Scene, Shape

Mask = npt.NDArray[np.bool_]

DESIGN_HEIGHT_PX = 360  # sizes in the topics are meant for this height
PAN_HZ = 0.05  # turns of the pan's ellipse a second
CYCLE_HZ = 0.15  # times the colours run through a second


class Painter:
    """Draws the frames of one scene, shape (height × 3/2, width), planar YUV 4:2:0.

    Args:
        scene: what to draw.
        size: width and height in pixels; the width even, the height divisible by four.
        seed: of everything that is random.
    """

    def __init__(self, scene: Scene, size: tuple[int, int], seed: int) -> None:
        self._scene = scene
        self._width, self._height = size
        random = np.random.default_rng(seed)
        self._field = backdrop(scene.backdrop, size, random)  # (field height, field width)
        self._ramp = _ramp(scene.colours, mirrored=scene.motion == "cycle")  # (3, 256): Y, U, V
        self._phases = random.random(scene.actor.count) if scene.actor else np.zeros(0)
        scale = self._height / DESIGN_HEIGHT_PX
        self._sprite = _sprite(scene.actor, scale) if scene.actor else np.zeros((0, 0), bool)

    def frame(self, time_s: float) -> Bytes:
        """Return the frame at `time_s` after the scene's beginning."""
        width, height = self._width, self._height
        field, ramp = self._view(time_s), self._colours(time_s)
        picture = np.empty((height * 3 // 2, width), np.uint8)
        planes = _planes(picture, width, height)
        planes[0][:] = ramp[0][field]
        planes[1][:] = ramp[1][field[::2, ::2]]
        planes[2][:] = ramp[2][field[::2, ::2]]
        if self._scene.actor:
            self._draw_actor(self._scene.actor, planes, time_s)
        return picture

    def _view(self, time_s: float) -> Bytes:
        """Return the part of the backdrop that is seen, shape (height, width)."""
        rows, columns = self._field.shape
        spare_y, spare_x = rows - self._height, columns - self._width
        if self._scene.motion == "zoom":
            zoom = 1 + (rows / self._height - 1) * (0.5 - 0.5 * np.cos(2 * np.pi * PAN_HZ * time_s))
            y = rows / 2 + (np.arange(self._height) - self._height / 2) * zoom
            x = columns / 2 + (np.arange(self._width) - self._width / 2) * zoom
            return self._field[np.ix_(y.astype(int), x.astype(int))]
        turn = 2 * np.pi * PAN_HZ * time_s if self._scene.motion == "pan" else 0.0
        top = round(spare_y * (0.5 - 0.5 * np.cos(turn)))
        left = round(spare_x * (0.5 + 0.5 * np.sin(turn)))
        return self._field[top : top + self._height, left : left + self._width]

    def _colours(self, time_s: float) -> Bytes:
        if self._scene.motion != "cycle":
            return self._ramp
        return np.roll(self._ramp, -round(256 * CYCLE_HZ * time_s), axis=1)

    def _draw_actor(self, actor: Actor, planes: tuple[Bytes, ...], time_s: float) -> None:
        colour = _yuv(np.array([_rgb(actor.colour)]))[0]
        for i, phase in enumerate(self._phases):
            x, y = _place(actor.path, float(phase), i / actor.count, time_s)
            at = (round(x * self._width) // 2 * 2, round(y * self._height) // 2 * 2)
            _blit(planes[0], self._sprite, at, int(colour[0]))
            for plane, value in zip(planes[1:], colour[1:], strict=True):
                _blit(plane, self._sprite[::2, ::2], (at[0] // 2, at[1] // 2), int(value))


def _sprite(actor: Actor, scale: float) -> Mask:
    """Return an actor's shape as a square mask."""
    size = max(4, round(actor.size_px * scale))
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / size * 2 - 1  # −1…1
    return _SHAPES[actor.shape](x, y)


def _star(x: Field, y: Field) -> Mask:
    return np.asarray(np.abs(x) ** 0.6 + np.abs(y) ** 0.6 < 1)


def _drop(x: Field, y: Field) -> Mask:
    return np.asarray((np.hypot(x, y - 0.4) < 0.58) | ((y < 0.3) & (np.abs(x) < (y + 1) * 0.42)))


def _ring(x: Field, y: Field) -> Mask:
    return np.asarray(np.abs(np.hypot(x, y) - 0.78) < 0.2)


_SHAPES: dict[Shape, Callable[[Field, Field], Mask]] = {
    "disc": lambda x, y: np.hypot(x, y) < 1,
    "ring": _ring,
    "box": lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 1,
    "star": _star,
    "drop": _drop,
    "flame": lambda x, y: np.abs(x) < (y + 1) / 2,
}


def _place(path: Flight, phase: float, share: float, time_s: float) -> tuple[float, float]:
    """Return where one of an actor's shapes is: its centre, 0…1 across and down."""
    turn = 2 * np.pi * (phase + 0.1 * time_s)
    if path == "bounce":
        return share * 0.8 + 0.1, 0.85 - 0.6 * abs(np.sin(2.2 * turn))
    if path == "drift":
        return (phase + 0.08 * time_s) % 1.2 - 0.1, 0.1 + 0.8 * share + 0.06 * np.sin(3 * turn)
    if path == "fall":
        return share + 0.02 * np.sin(turn), (phase + 0.3 * time_s) % 1.2 - 0.1
    if path == "orbit":
        around = 2 * np.pi * (share + 0.12 * time_s)
        return 0.5 + 0.3 * np.cos(around), 0.5 + 0.32 * np.sin(around)
    if path == "rise":
        return share + 0.03 * np.sin(2 * turn), 1.1 - (phase + 0.25 * time_s) % 1.2
    return 0.5 + 0.32 * np.sin(turn + 2 * np.pi * share), 0.5 + 0.12 * np.cos(2 * turn)


def _planes(picture: Bytes, width: int, height: int) -> tuple[Bytes, Bytes, Bytes]:
    """Return views of the Y, U and V planes of a planar picture."""
    luma, quarter = picture[:height], height // 4
    u = picture[height : height + quarter].reshape(height // 2, width // 2)
    v = picture[height + quarter :].reshape(height // 2, width // 2)
    return luma, u, v


def _blit(plane: Bytes, mask: Mask, centre: tuple[int, int], value: int) -> None:
    """Paint `value` where the mask is set, cut off at the plane's borders."""
    rows, columns = mask.shape
    left, top = centre[0] - columns // 2, centre[1] - rows // 2
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + columns, plane.shape[1]), min(top + rows, plane.shape[0])
    if x0 < x1 and y0 < y1:
        seen = mask[y0 - top : y1 - top, x0 - left : x1 - left]
        np.copyto(plane[y0:y1, x0:x1], np.uint8(value), where=seen)


def _ramp(colours: tuple[str, ...], mirrored: bool) -> Bytes:
    """Return 256 colours from dark to light (and back, so that they can run round): (3, 256)."""
    stops = np.array([_rgb(colour) for colour in colours])
    stops = np.concatenate([stops, stops[-2::-1]]) if mirrored else stops
    at, grid = np.linspace(0, 255, len(stops)), np.arange(256)
    rgb = np.stack([np.interp(grid, at, stops[:, channel]) for channel in range(3)], axis=1)
    return np.ascontiguousarray(_yuv(rgb).T)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def _yuv(rgb: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> Bytes:
    """Return RGB rows as limited-range YUV after ITU-R BT.601."""
    matrix = np.array(
        [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
    )
    return np.asarray((rgb / 255 @ matrix.T + (16, 128, 128)).round(), np.uint8)
