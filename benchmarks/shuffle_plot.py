"""A plot of two logarithmic axes as SVG, readable on light and dark pages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from pathlib import Path

__all__ = ["Curve", "Panel", "Points", "plot"]

Points = list[tuple[float, float]]

WIDTH, HEIGHT, LEFT, TOP, GAP = 330, 300, 62, 44, 62
COLOURS = ("#0969da", "#1a7f37", "#bf8700", "#cf222e", "#8250df")
STYLE = """
text { font: 12px sans-serif; fill: #1f2328 } .title { font-weight: bold; font-size: 13px }
.frame { stroke: #656d76; fill: none }
.grid { stroke: #656d76; stroke-opacity: .25 } .line { fill: none; stroke-width: 1.8 } .dot { stroke: none }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .frame, .grid { stroke: #9198a1 }
.line, .dot { filter: brightness(1.5) } }
"""


@dataclass(frozen=True)
class Curve:
    name: str
    line: Points
    dots: Points


@dataclass(frozen=True)
class Panel:
    label: str
    curves: list[Curve]


def _tick(power: int) -> str:
    return {0: "1", 1: "10", 2: "100", 3: "1,000"}.get(power, f'10<tspan dy="-5" font-size="9">{power}</tspan>')


class _Axes:
    """Where values stand in a panel."""

    def __init__(self, panel: Panel, left: float, top_value: float) -> None:
        self.left = left
        self.decades = math.ceil(max(math.log10(x) for curve in panel.curves for x, _ in curve.line))
        self.rows = math.log10(top_value) * 1.05  # decades of the y axis

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = self.left + WIDTH * math.log10(x) / self.decades
        return round(across, 1), round(TOP + HEIGHT * (1 - math.log10(max(y, 1)) / self.rows), 1)

    def grid(self, label: str) -> list[str]:
        bottom, lines = TOP + HEIGHT, []
        for power in range(self.decades + 1):
            x, _ = self.at(10**power, 1)
            lines.append(f'<line class="grid" x1="{x}" y1="{TOP}" x2="{x}" y2="{bottom}"/>')
            lines.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{_tick(power)}</text>')
        for power in range(int(self.rows) + 1):
            _, y = self.at(1, 10**power)
            lines.append(f'<line class="grid" x1="{self.left}" y1="{y}" x2="{self.left + WIDTH}" y2="{y}"/>')
            lines.append(f'<text x="{self.left - 6}" y="{y + 4}" text-anchor="end">{_tick(power)}</text>')
        middle = self.left + WIDTH / 2
        lines.append(f'<text x="{middle}" y="{bottom + 38}" text-anchor="middle">{escape(label)}</text>')
        lines.append(f'<rect class="frame" x="{self.left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}"/>')
        return lines


def _drawn(axes: _Axes, number: int, curve: Curve) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    points = " ".join("{},{}".format(*axes.at(*point)) for point in curve.line)
    dots = (axes.at(*point) for point in curve.dots)
    return [
        f'<polyline class="line" stroke="{colour}" points="{points}"/>',
        *(f'<circle class="dot" fill="{colour}" cx="{x}" cy="{y}" r="3.2"/>' for x, y in dots),
    ]


def _legend(curves: list[Curve], left: float) -> list[str]:
    lines = []
    for number, curve in enumerate(curves):
        y, colour = TOP + 18 + 18 * number, COLOURS[number % len(COLOURS)]
        lines.append(f'<line class="line" stroke="{colour}" x1="{left}" y1="{y}" x2="{left + 22}" y2="{y}"/>')
        lines.append(f'<text x="{left + 28}" y="{y + 4}">{escape(curve.name)}</text>')
    return lines


def plot(target: Path, title: str, panels: list[Panel]) -> None:
    """Write the panels side by side; the y axis is the same in all."""
    top_value = max(y for panel in panels for curve in panel.curves for _, y in curve.line + curve.dots)
    width, height = LEFT + len(panels) * (WIDTH + GAP) - GAP + 20, TOP + HEIGHT + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>',
        f'<text x="{LEFT}" y="37">lines: formula; dots: measured</text>',
        f'<text transform="translate(14 {TOP + HEIGHT / 2}) rotate(-90)" text-anchor="middle">design effect</text>',
    ]
    for number, panel in enumerate(panels):
        axes = _Axes(panel, LEFT + number * (WIDTH + GAP), top_value)
        parts += axes.grid(panel.label)
        parts += [line for i, curve in enumerate(panel.curves) for line in _drawn(axes, i, curve)]
        parts += _legend(panel.curves, axes.left + WIDTH - 105)
    target.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")
