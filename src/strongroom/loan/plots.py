"""Plots as inline SVG, drawn from numbers alone: nothing is fetched, nothing is executed."""

import html
from collections.abc import Sequence
from typing import Final

WIDTH: Final = 420
HEIGHT: Final = 340
LEFT, TOP, RIGHT, BOTTOM = 52, 14, 14, 46
INNER_W: Final = WIDTH - LEFT - RIGHT
INNER_H: Final = HEIGHT - TOP - BOTTOM
BAR_HEIGHT: Final = 22
BAR_LENGTH: Final = 430
BAR_VALUE: Final = 60
# Widest of the usual sans-serif fonts at 12 px (DejaVu Sans: capitals 8.2, others 7.4 px on average).
LETTER_W: Final = 8

Points = Sequence[tuple[float, float]]


def curve(title: str, points: Points, *, x: str, y: str, diagonal: bool = False, dots: bool = False) -> str:
    """A curve over the unit square.

    Args:
        title: Text alternative of the picture.
        points: (x, y) between 0 and 1, in drawing order.
        x: Label of the x axis.
        y: Label of the y axis.
        diagonal: Draw the line from (0, 0) to (1, 1) for comparison.
        dots: Mark every point.
    """
    parts = [_open(WIDTH, HEIGHT, title), *_axes(x, y)]
    if diagonal:
        parts.append(f'<line class="guide" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    path = " ".join(f"{_x(px)},{_y(py)}" for px, py in points)
    parts.append(f'<polyline class="line" points="{path}"/>')
    if dots:
        parts += [f'<circle class="dot" cx="{_x(px)}" cy="{_y(py)}" r="3.5"/>' for px, py in points]
    return "".join([*parts, "</svg>"])


def bars(title: str, items: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars with their names and values.

    Args:
        title: Text alternative of the picture.
        items: Name and value, not negative; drawn in this order.
    """
    largest = max((value for _, value in items), default=0.0) or 1.0
    label = 16 + LETTER_W * max((len(name) for name, _ in items), default=0)
    parts = [_open(label + BAR_LENGTH + BAR_VALUE, BAR_HEIGHT * len(items) + 8, title)]
    for row, (name, value) in enumerate(items):
        top = row * BAR_HEIGHT + 4
        length = BAR_LENGTH * value / largest
        parts.append(f'<text x="{label - 8}" y="{top + 14}" text-anchor="end">{html.escape(name)}</text>')
        parts.append(f'<rect class="bar" x="{label}" y="{top}" width="{length:.1f}" height="{BAR_HEIGHT - 6}"/>')
        parts.append(f'<text x="{label + length + 6:.1f}" y="{top + 14}">{value:.3f}</text>')
    return "".join([*parts, "</svg>"])


def _open(width: int, height: int, title: str) -> str:
    label = html.escape(title, quote=True)
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{label}"'
        ' xmlns="http://www.w3.org/2000/svg">'
    )


def _axes(x: str, y: str) -> list[str]:
    parts = [f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{INNER_W}" height="{INNER_H}"/>']
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="grid" x1="{_x(tick)}" y1="{_y(0)}" x2="{_x(tick)}" y2="{_y(1)}"/>')
        parts.append(f'<line class="grid" x1="{_x(0)}" y1="{_y(tick)}" x2="{_x(1)}" y2="{_y(tick)}"/>')
        parts.append(f'<text x="{_x(tick)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(_y(tick)) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    middle = TOP + INNER_H / 2
    parts.append(f'<text x="{LEFT + INNER_W / 2}" y="{HEIGHT - 10}" text-anchor="middle">{html.escape(x)}</text>')
    parts.append(
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{html.escape(y)}</text>'
    )
    return parts


def _x(value: float) -> str:
    return f"{LEFT + INNER_W * min(max(value, 0.0), 1.0):.1f}"


def _y(value: float) -> str:
    return f"{TOP + INNER_H * (1 - min(max(value, 0.0), 1.0)):.1f}"
