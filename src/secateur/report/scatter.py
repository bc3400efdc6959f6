"""Ranks against ranks: each unit a mark, by its score from left to right, by its loss change upwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.stats import rankdata

from .svg import COLOURS, Scale, add, canvas, written

WIDTH, HEIGHT = 360.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 350.0, 22.0, 302.0
TOLD = 1000  # marks up to which each says what it is: more would make the page heavy


@dataclass(frozen=True)
class Mark:
    """A unit: what the mark says when it is pointed at, the score of a criterion, and what the loss did."""

    name: str
    score: float
    change: float


def scatter(marks: Sequence[Mark], *, series: int, label: str, upwards: str) -> str:
    """SVG markup; equal values share the mean of their ranks, and 1 is the lowest. `upwards` names the vertical axis.

    The dashed line is where all marks would lie if the score ranked as the loss does.
    """
    svg = canvas(WIDTH, HEIGHT, label)
    most = float(max(len(marks), 2))
    x, y = (_ranks(most, *ends) for ends in ((LEFT, RIGHT), (BOTTOM, TOP)))
    for tick in y.ticks:
        add(svg, "line", "grid", x1=LEFT, x2=RIGHT, y1=y(tick), y2=y(tick))
        add(svg, "text", "tick", y.text(tick), x=LEFT - 6, y=y(tick) + 3.5, text_anchor="end")
    add(svg, "line", "axis", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM)
    for tick in x.ticks:
        add(svg, "line", "axis", x1=x(tick), x2=x(tick), y1=BOTTOM, y2=BOTTOM + 4)
        add(svg, "text", "tick", x.text(tick), x=x(tick), y=BOTTOM + 16, text_anchor="middle")
    add(svg, "text", "name", "rank by score", x=(LEFT + RIGHT) / 2, y=HEIGHT - 6, text_anchor="middle")
    add(svg, "text", "name", upwards, x=0, y=10)
    add(svg, "line", "dense", x1=x(1), y1=y(1), x2=x(most), y2=y(most))
    ranks = (rankdata([m.score for m in marks]), rankdata([m.change for m in marks])) if marks else ((), ())
    for mark, across, up in zip(marks, *ranks, strict=True):
        dot = add(svg, "circle", f"dot s{series % COLOURS}", cx=x(across), cy=y(up), r=2.8)
        if len(marks) <= TOLD:
            add(dot, "title", text=mark.name)
    return written(svg)


def _ranks(most: float, start: float, end: float) -> Scale:
    """From 0 to the highest rank, which need not be round."""
    scale = Scale.over([0.0, most], start, end)
    return replace(scale, high=most, ticks=tuple(t for t in scale.ticks if t <= most))
