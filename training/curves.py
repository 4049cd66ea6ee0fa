"""The losses of a run as a picture, SVG. Pure."""

from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, MARGIN = 640, 300, 44  # px
SMOOTHED = 0.95  # share of the past in a smoothed loss
COLOURS = ("#2563eb", "#16a34a", "#dc2626")


def loss_curves(losses: Mapping[str, Sequence[float]]) -> str:
    """Return an SVG of one smoothed curve a stage, each over its own share of the steps.

    Args:
        losses: of every step, by the stage's name.
    """
    smooth = {name: smoothed(values) for name, values in losses.items() if values}
    top = max((max(values) for values in smooth.values()), default=1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _line([(MARGIN, MARGIN / 2), (MARGIN, HEIGHT - MARGIN), (WIDTH, HEIGHT - MARGIN)], "#666"),
        _text(6, MARGIN / 2 + 10, f"{top:.1f}"),
        _text(6, HEIGHT - MARGIN, "0"),
        _text(WIDTH / 2 - 60, HEIGHT - 10, "share of the stage's steps"),
    ]
    for number, (name, values) in enumerate(smooth.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(_line(_points(values, top), colour))
        label = f"{name}: {len(values)} steps, loss {values[0]:.2f} to {values[-1]:.2f}"
        parts.append(_text(WIDTH - 330, 30 + 18 * number, label, colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the exponential moving average."""
    result = [values[0]]
    for value in values[1:]:
        result.append(SMOOTHED * result[-1] + (1 - SMOOTHED) * value)
    return result


def _points(values: Sequence[float], top: float) -> list[tuple[float, float]]:
    across, up = WIDTH - MARGIN - 10, HEIGHT - 1.5 * MARGIN
    last = max(1, len(values) - 1)
    return [
        (MARGIN + across * at / last, HEIGHT - MARGIN - up * value / top)
        for at, value in enumerate(values)
    ]


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _text(x: float, y: float, text: str, colour: str = "#333") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}">{text}</text>'
