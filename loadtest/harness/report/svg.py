"""Charts as inline SVG: text that can be read and searched, sharp on paper, no script.

Series differ by colour and by dashes, so a print in grey can be read too. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Literal

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 30, 42
BAR = 12  # thick
MARK_ROWS = 3  # of labels, so that neighbours do not cover each other
MAX_POINTS = 1_200  # of one line; more cannot be seen

Scale = Literal["linear", "log", "nines"]
Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Line:
    """One series; None breaks the line."""

    name: str
    points: Points
    style: int = 0
    dots: bool = False  # also a dot at each point


@dataclass(frozen=True)
class Mark:
    """Something that happened: a band from `start` to `end`, or a line where both are the same."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Level:
    """A limit: a line across."""

    label: str
    at: float


@dataclass(frozen=True)
class Axis:
    """One axis."""

    label: str
    scale: Scale = "linear"
    low: float | None = None
    high: float | None = None


class _Ruler:
    """Turns values into places between two pixels."""

    def __init__(self, axis: Axis, values: Sequence[float], start: float, end: float) -> None:
        known = [v for v in values if axis.scale != "log" or v > 0] or [0.0, 1.0]
        low = axis.low if axis.low is not None else min(known)
        high = axis.high if axis.high is not None else max(known)
        if axis.scale == "log":
            low, high = 10 ** floor(log10(max(low, 1e-3))), 10 ** ceil(log10(max(high * 1.1, 1e-2)))
        self.axis, self.low, self.high = axis, low, high if high > low else low + 1
        self._start, self._end = start, end

    def _unit(self, value: float) -> float:
        match self.axis.scale:
            case "log":
                span = log10(self.high) - log10(self.low)
                return (log10(max(value, self.low)) - log10(self.low)) / span
            case "nines":
                most = _nines(self.high)
                return min(_nines(value), most) / most if most else 0.0
            case _:
                return (value - self.low) / (self.high - self.low)

    def place(self, value: float) -> float:
        return self._start + min(1.05, max(-0.05, self._unit(value))) * (self._end - self._start)

    def ticks(self) -> list[tuple[float, str]]:
        match self.axis.scale:
            case "log":
                powers = range(round(log10(self.low)), round(log10(self.high)) + 1)
                return [(10.0**p, f"{10.0**p:g}") for p in powers]
            case "nines":
                all_ticks = (0, 50, 90, 99, 99.9, 99.99, 99.999)
                return [(t, f"{t:g}") for t in all_ticks if t <= self.high]
            case _:
                return _even_ticks(self.low, self.high)


def _nines(percent: float) -> float:
    """Return how many nines a percentile has: 99 → 2, 99.9 → 3; the maximum has 7."""
    return min(7.0, -log10(max(1e-7, 1 - percent / 100)))


def _even_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return about five round numbers between two values."""
    rough = (high - low) / 5
    power = 10.0 ** floor(log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = ceil(low / step - 1e-9)
    count = floor(high / step + 1e-9) - first + 1
    return [((first + i) * step, f"{round((first + i) * step, 9):g}") for i in range(count)]


def line_chart(
    title: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    marks: Sequence[Mark] = (),
    levels: Sequence[Level] = (),
) -> str:
    """Draw lines over an axis, with what happened behind them, limits across, and a legend."""
    xs = [px for line in lines for px, _ in line.points]
    ys = [py for line in lines for _, py in line.points if py is not None]
    ys += [level.at for level in levels]
    across = _Ruler(x, xs, LEFT, WIDTH - RIGHT)
    up = _Ruler(y, ys, HEIGHT - BOTTOM, TOP)
    parts = [
        *(_band(mark, across) for mark in marks),
        *_grid(across, up),
        *(_label(mark, across, row % MARK_ROWS) for row, mark in enumerate(marks)),
        *(_level(level, up) for level in levels),
        *(_line(line, across, up) for line in lines),
    ]
    return _figure(title, _legend([(line.name, line.style) for line in lines]), parts, HEIGHT)


def _grid(across: _Ruler, up: _Ruler) -> list[str]:
    parts = []
    for value, text in up.ticks():
        at = up.place(value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(
            f'<text class="tick" text-anchor="end" x="{LEFT - 6}" y="{at + 4:.1f}">{text}</text>'
        )
    for value, text in across.ticks():
        at = across.place(value)
        parts.append(_text("tick", "middle", at, HEIGHT - BOTTOM + 16, text))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(_text("axis", "middle", middle, HEIGHT - 8, across.axis.label))
    parts.append(_text("axis", "start", 4, TOP - 12, up.axis.label))
    return parts


def _text(kind: str, anchor: str, x: float, y: float, text: str) -> str:
    place = f'text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def _line(line: Line, across: _Ruler, up: _Ruler) -> str:
    every = max(1, len(line.points) // MAX_POINTS)
    path, pen_down, dots = [], False, []
    for px, py in line.points[::every]:
        if py is None:
            pen_down = False
            continue
        place = f"{across.place(px):.1f} {up.place(py):.1f}"
        path.append(f"{'L' if pen_down else 'M'}{place}")
        pen_down = True
        if line.dots:
            cx, cy = place.split()
            dots.append(f'<circle class="s{line.style} dot" cx="{cx}" cy="{cy}" r="3"/>')
    return f'<path class="s{line.style}" d="{"".join(path)}"/>' + "".join(dots)


def _band(mark: Mark, across: _Ruler) -> str:
    start, end = across.place(mark.start), across.place(mark.end)
    shape = f'x="{start:.1f}" y="{TOP}" height="{HEIGHT - TOP - BOTTOM}"'
    return f'<rect class="mark" {shape} width="{max(1.5, end - start):.1f}"/>'


def _label(mark: Mark, across: _Ruler, row: int) -> str:
    return _text("mark", "start", across.place(mark.start) + 2, TOP + 10 + 11 * row, mark.label)


def _level(level: Level, up: _Ruler) -> str:
    at = up.place(level.at)
    line = f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
    return line + _text("level", "end", WIDTH - RIGHT, at - 4, level.label)


def _legend(entries: Sequence[tuple[str, int]]) -> str:
    """Return the legend as HTML, which wraps where there are many names."""
    keys = (
        f'<span><svg class="key" viewBox="0 0 24 8"><path class="s{style}" d="M0 4h24"/></svg>'
        f"{escape(name)}</span>"
        for name, style in entries
    )
    return f'<div class="legend">{"".join(keys)}</div>'


@dataclass(frozen=True)
class Bar:
    """One row of bars, one above the other."""

    label: str
    values: Sequence[float]


def bar_chart(title: str, names: Sequence[str], bars: Sequence[Bar], unit: str) -> str:
    """Draw horizontal bars: for each row one bar a name, with its figure beside it."""
    row = 16 * len(names) + 14
    height = TOP + row * len(bars) + 8
    left = 20 + 7 * max((len(bar.label) for bar in bars), default=0)
    most = max((value for bar in bars for value in bar.values), default=1.0) or 1.0
    parts: list[str] = []
    for number, bar in enumerate(bars):
        top = TOP + number * row
        parts.append(_text("tick", "end", left - 8, top + row / 2 - 2, bar.label))
        for index, value in enumerate(bar.values):
            width = max(0.5, (WIDTH - left - 90) * value / most)
            y = top + index * 16
            shape = f'x="{left}" y="{y}" width="{width:.1f}" height="{BAR}"'
            parts.append(f'<rect class="bar b{index}" {shape}/>')
            parts.append(_text("tick", "start", left + width + 6, y + 10, f"{value:.2f} {unit}"))
    legend = _legend([(name, index) for index, name in enumerate(names)])
    return _figure(title, legend, parts, height)


def _figure(title: str, legend: str, parts: Sequence[str], height: float) -> str:
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{legend}"
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )
