"""Figures with their intervals as drawings: SVG in one file, without scripts or fonts. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from training.evaluation.bootstrap import Interval

WIDTH, HEIGHT = 900, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 48, 48  # around the drawing area
AREA_WIDTH, AREA_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
TICKS = 5
GROUP_SHARE = 0.85  # of a group's width that its bars fill
DOT_PX = 4

Series = Mapping[str, Interval]  # by group


def bar_chart(title: str, groups: Sequence[str], series: Mapping[str, Series]) -> str:
    """Draw values of 0…1 as bars with their intervals.

    Args:
        title: over the drawing.
        groups: along the bottom.
        series: the bars of each colour, by group; a group without a value has no bar.
    """
    body: list[str] = []
    step = AREA_WIDTH / len(groups)
    for at, group in enumerate(groups):
        present = [name for name in series if group in series[name]]
        width = GROUP_SHARE * step / max(1, len(present))
        for place, name in enumerate(present):
            left = LEFT + step * (at + (1 - GROUP_SHARE) / 2) + place * width
            body.extend(_bar(left, width, series[name][group], _colour(series, name)))
    centres = [LEFT + step * (at + 0.5) for at in range(len(groups))]
    return _drawing(title, groups, centres, list(series), body)


def line_chart(title: str, groups: Sequence[str], series: Mapping[str, Series]) -> str:
    """Draw values of 0…1 as lines with their intervals; arguments as of `bar_chart`."""
    step = AREA_WIDTH / len(groups)
    centres = {group: LEFT + step * (at + 0.5) for at, group in enumerate(groups)}
    body: list[str] = []
    for name, values in series.items():
        colour = _colour(series, name)
        there = [group for group in groups if group in values]
        points = " ".join(f"{centres[g]:.1f},{_height(values[g].mean):.1f}" for g in there)
        body.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for group in there:
            x, value = centres[group], values[group]
            body.append(_whisker(x, value, colour))
            y = _height(value.mean)
            body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{DOT_PX}" fill="{colour}"/>')
    return _drawing(title, groups, list(centres.values()), list(series), body)


def _bar(left: float, width: float, value: Interval, colour: str) -> Iterator[str]:
    top = _height(value.mean)
    yield (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{_height(0) - top:.1f}" fill="{colour}" stroke="white"/>'
    )
    yield _whisker(left + width / 2, value, "#222")


def _whisker(x: float, value: Interval, colour: str) -> str:
    low, high = _height(value.low), _height(value.high)
    return f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{colour}"/>'


def _drawing(
    title: str,
    groups: Sequence[str],
    centres: Sequence[float],
    names: Sequence[str],
    body: Sequence[str],
) -> str:
    """Put title, axes, legend and body together."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="28" font-size="16">{escape(title)}</text>',
        *_axis(),
        *body,
    ]
    for group, x in zip(groups, centres, strict=True):
        lines.append(_text(x, HEIGHT - BOTTOM + 20, group, "middle"))
    for at, name in enumerate(names):
        y = TOP + 22 * at
        colour = COLOURS[at % len(COLOURS)]
        lines.append(
            f'<rect x="{WIDTH - RIGHT + 12}" y="{y}" width="12" height="12" fill="{colour}"/>'
        )
        lines.append(_text(WIDTH - RIGHT + 30, y + 11, name, "start"))
    return "\n".join([*lines, "</svg>\n"])


def _axis() -> Iterator[str]:
    for tick in range(TICKS + 1):
        value = tick / TICKS
        y = _height(value)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>'
        yield _text(LEFT - 8, y + 4, f"{value:.1f}", "end")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _height(value: float) -> float:
    return TOP + AREA_HEIGHT * (1 - min(1.0, max(0.0, value)))


def _colour(series: Mapping[str, Series], name: str) -> str:
    return COLOURS[list(series).index(name) % len(COLOURS)]
