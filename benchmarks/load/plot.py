"""A line per server over the number of streams, as SVG: both axes logarithmic, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 760
HEIGHT: Final = 420
LEFT, RIGHT, TOP, BOTTOM = 64, 170, 52, 52
#: Apart for eyes that do not tell red from green, and on white as on black.
COLOURS: Final = ("#808080", "#1f77d0", "#e07b00", "#2a9d5c", "#c2479b", "#8a6fd1", "#b5543c")
_STYLE: Final = """
  text { font: 13px system-ui, sans-serif; fill: #333 }
  .title { font-size: 15px; font-weight: 600 }
  .grid { stroke: #8884; stroke-width: 1 }
  .line { fill: none; stroke-width: 2.25; stroke-linejoin: round }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } }
"""


def plot(title: str, x_title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The picture.

    :param lines: the points of each line, x and y above 0.
    """
    lines = {name: sorted(points) for name, points in lines.items() if points}
    across = _Axis([x for points in lines.values() for x, _ in points], LEFT, WIDTH - RIGHT)
    up = _Axis([y for points in lines.values() for _, y in points], HEIGHT - BOTTOM, TOP, is_round=True)
    parts = [f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>']
    parts += [_horizontal(value, up.at(value)) for value in up.ticks]
    parts += [_text(across.at(x), HEIGHT - BOTTOM + 20, f"{x:,.0f}", "middle") for x in sorted(across.values)]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_title, "middle"))
    heights = _apart([up.at(points[-1][1]) for points in lines.values()])
    for index, (name, points) in enumerate(lines.items()):
        placed = [(across.at(x), up.at(y)) for x, y in points]
        parts += _line(name, placed, heights[index], COLOURS[index % len(COLOURS)])
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>"]) + "\n"


class _Axis:
    """Values to places.

    :param is_round: begin and end at a tick.
    """

    def __init__(self, values: Sequence[float], first: float, last: float, is_round: bool = False) -> None:
        self.values = set(values) or {1.0}
        low, high = min(self.values), max(self.values)
        steps = [digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5)]
        if is_round:
            low, high = max(step for step in steps if step <= low), min(step for step in steps if step >= high)
        self.ticks = [step for step in steps if low <= step <= high]
        self._low, self._width = math.log(low), math.log(high / low) or 1.0
        self._first, self._last = first, last

    def at(self, value: float) -> float:
        share = (math.log(value) - self._low) / self._width
        return self._first + share * (self._last - self._first)


def _apart(heights: Sequence[float], distance: float = 16) -> list[float]:
    """The same heights, moved down where labels would cover each other."""
    moved = list(heights)
    lowest = -math.inf
    for index in sorted(range(len(moved)), key=moved.__getitem__):
        lowest = moved[index] = max(moved[index], lowest + distance)
    return moved


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _horizontal(value: float, y: float) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(LEFT - 8, y + 4, f"{value:,g}", "end")


def _line(name: str, points: Sequence[tuple[float, float]], label_at: float, colour: str) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
    label = f'<text x="{WIDTH - RIGHT + 12}" y="{label_at + 4:.1f}" style="fill:{colour}">{escape(name)}</text>'
    return [f'<polyline class="line" stroke="{colour}" points="{path}"/>', *dots, label]
