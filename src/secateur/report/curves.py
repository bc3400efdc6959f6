"""A small panel a group: a metric against the units kept of that group alone, all panels on one vertical axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .svg import Scale, add, canvas, marker, written

WIDTH, HEIGHT = 180.0, 128.0
LEFT, RIGHT, TOP, BOTTOM = 30.0, 172.0, 8.0, 108.0


@dataclass(frozen=True)
class Curve:
    """Values at keep ratios, rising; `chosen` is the ratio to mark, if any."""

    group: str
    ratios: tuple[float, ...]
    values: tuple[float, ...]
    chosen: float | None = None


def axis(curves: Sequence[Curve], dense: float) -> Scale:
    """The vertical axis of all panels."""
    values = [dense, *(v for c in curves for v in c.values)]
    if max(values) == min(values):
        values = [dense - 0.5, dense + 0.5]
    return Scale.over(values, BOTTOM, TOP, about=4)


def panel(curve: Curve, dense: float, y: Scale, *, label: str, unit: str = "") -> str:
    """SVG markup: the curve ends at the whole model, whose level is the dashed line; the full mark is `chosen`."""
    svg = canvas(WIDTH, HEIGHT, label)
    x = Scale.over([0.0, 100.0], LEFT, RIGHT, about=2)
    for tick in y.ticks:
        add(svg, "line", "grid", x1=LEFT, x2=RIGHT, y1=y(tick), y2=y(tick))
        add(svg, "text", "tick", y.text(tick), x=LEFT - 5, y=y(tick) + 3.5, text_anchor="end")
    add(svg, "line", "axis", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM)
    for tick, anchor in zip(x.ticks, ("middle", "middle", "end"), strict=True):
        add(svg, "line", "axis", x1=x(tick), x2=x(tick), y1=BOTTOM, y2=BOTTOM + 3)
        inside = 4 if anchor == "end" else 0
        add(svg, "text", "tick", x.text(tick), x=x(tick) + inside, y=BOTTOM + 15, text_anchor=anchor)
    add(svg, "line", "dense", x1=LEFT, x2=RIGHT, y1=y(dense), y2=y(dense))
    points = [*zip(curve.ratios, curve.values, strict=True), *([] if 1.0 in curve.ratios else [(1.0, dense)])]
    path = " ".join(f"{x(100 * r):.2f},{y(v):.2f}" for r, v in points)
    add(svg, "polyline", "join s0", points=path)
    for ratio, value in points:
        said = f"{curve.group}, {100 * ratio:g} % kept: {value:.4g}{unit}"
        marker(svg, 0, x(100 * ratio), y(value), 4.4 if ratio == curve.chosen else 2.4, said)
    return written(svg)
