"""Accuracy against the multiply-accumulates kept: one panel an arm, one mark a method and budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from .spread import Spread, percent, plus_minus, span
from .svg import COLOURS, Scale, add, canvas, marker, written

WIDTH, HEIGHT = 360.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 352.0, 26.0, 210.0
APART = 13.0  # pixels between the marks of two methods at the same budget
LEAST_X, LEAST_Y = 25.0, 1.0  # percent that an axis covers at least, so that rounding is not blown up


@dataclass(frozen=True)
class Point:
    """A mark: `kept` is the mean fraction of the MACs, `accuracy` fractions over seeds; dense models are not joined."""

    series: int
    method: str
    kept: float
    accuracy: Spread


def chart(points: Sequence[Point], dense: Spread, *, series: int, label: str, shared: Sequence[Point] = ()) -> str:
    """The panel as SVG markup.

    Marks are means, bars mean ± sample standard deviation, rings beside them single seeds; a line joins the budgets of
    a method. The dashed line is the dense model, with its spread as a band. `series` is how many methods the page has:
    the marks of each are set apart by the same shift. The vertical axis also covers `shared`, the points of the panels
    beside this one.
    """
    svg = canvas(WIDTH, HEIGHT, label)
    x, y, step = _scales(points, [*points, *shared], dense, series)
    _axes(svg, x, y)
    _dense(svg, dense, x, y)
    for number in sorted({p.series for p in points}):
        own = sorted((p for p in points if p.series == number), key=lambda p: p.kept)
        _series(svg, own, x, y, (number - (series - 1) / 2) * step, step)
    return written(svg)


def _ends(spread: Spread) -> list[float]:
    """What an axis must reach, in percent."""
    if spread.mean is None or spread.low is None or spread.high is None:
        return []
    sd = spread.sd or 0.0
    return [100 * v for v in (spread.low, spread.high, spread.mean - sd, spread.mean + sd)]


def _scales(points: Sequence[Point], reach: Sequence[Point], dense: Spread, series: int) -> tuple[Scale, Scale, float]:
    kept = sorted({round(100 * p.kept) for p in points} | {100})
    margin = min(APART * (series - 1) / 2, 45) + 8
    x = Scale.over([100.0, min(kept[0] - 5, 100 - LEAST_X)], LEFT + margin, RIGHT - margin)
    near = min((x(b) - x(a) for a, b in pairwise(kept) if b - a > 3), default=APART * series)
    ends = [v for s in (dense, *(p.accuracy for p in reach)) for v in _ends(s)] or [0.0, 100.0]
    if max(ends) - min(ends) < LEAST_Y:
        middle = (max(ends) + min(ends)) / 2
        ends = [middle - LEAST_Y / 2, middle + LEAST_Y / 2]
    return x, Scale.over(ends, BOTTOM, TOP), min(APART, 90 / max(series, 1), near / max(series, 1))


def _axes(svg: Element, x: Scale, y: Scale) -> None:
    for tick in y.ticks:
        if tick <= 100 + 1e-9:
            add(svg, "line", "grid", x1=LEFT, x2=RIGHT, y1=y(tick), y2=y(tick))
            add(svg, "text", "tick", y.text(tick), x=LEFT - 6, y=y(tick) + 3.5, text_anchor="end")
    add(svg, "line", "axis", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM)
    for tick in x.ticks:
        add(svg, "line", "axis", x1=x(tick), x2=x(tick), y1=BOTTOM, y2=BOTTOM + 4)
        add(svg, "text", "tick", x.text(tick), x=x(tick), y=BOTTOM + 16, text_anchor="middle")
    add(svg, "text", "name", "MACs kept, %", x=(LEFT + RIGHT) / 2, y=HEIGHT - 6, text_anchor="middle")
    add(svg, "text", "name", "accuracy, %", x=0, y=10)  # above the axis: beside it, long tick labels would meet it


def _dense(svg: Element, dense: Spread, x: Scale, y: Scale) -> None:
    if dense.mean is None:
        return
    middle, sd = 100 * dense.mean, 100 * (dense.sd or 0.0)
    if sd:
        add(svg, "rect", "band", x=LEFT, width=RIGHT - LEFT, y=y(middle + sd), height=y(middle - sd) - y(middle + sd))
    add(svg, "line", "dense", x1=LEFT, x2=RIGHT, y1=y(middle), y2=y(middle))
    point = add(svg, "circle", "whole", cx=x(100), cy=y(middle), r=4.2)
    add(point, "title", text=f"dense: {_said(dense)}")


def _said(spread: Spread) -> str:
    seeds = f", seeds {span(spread)} %" if spread.n > 1 else ""
    return f"{plus_minus(spread)} %{seeds}, n={spread.n}"


def _series(svg: Element, points: list[Point], x: Scale, y: Scale, shift: float, step: float) -> None:
    places = [(x(100 * p.kept) + shift, p) for p in points if p.accuracy.mean is not None]
    pruned = [(px, p) for px, p in places if p.kept < 1]
    if len(pruned) > 1:
        path = " ".join(f"{px:.2f},{y(100 * (p.accuracy.mean or 0.0)):.2f}" for px, p in pruned)
        add(svg, "polyline", f"join s{points[0].series % COLOURS}", points=path)
    for px, point in places:
        _mark(svg, px, point, y, 0.42 * step)


def _mark(svg: Element, px: float, point: Point, y: Scale, aside: float) -> None:
    mean, colour = 100 * (point.accuracy.mean or 0), f"s{point.series % COLOURS}"
    if point.accuracy.sd is not None:
        top, foot = y(mean + 100 * point.accuracy.sd), y(mean - 100 * point.accuracy.sd)
        for x1, x2, y1, y2 in ((px, px, top, foot), (px - 3, px + 3, top, top), (px - 3, px + 3, foot, foot)):
            add(svg, "line", f"bar {colour}", x1=x1, x2=x2, y1=y1, y2=y2)
        for value in point.accuracy.values:
            add(svg, "circle", f"seed {colour}", cx=px + aside, cy=y(100 * value), r=1.6)
    said = f"{point.method}: {_said(point.accuracy)}; MACs kept {percent(point.kept, 1)} %"
    marker(svg, point.series, px, y(mean), title=said)
