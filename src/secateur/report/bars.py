"""Widths of each group before and after the cut, as horizontal bars."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from .summary import Width
from .svg import COLOURS, add, canvas, shorten, written

WIDTH, ROW = 360.0, 19.0
LETTER = 5.8  # pixels a letter of the labels takes in a wide system font; digits are all of one width
LONGEST = 20  # letters of a group's name


def bars(widths: Sequence[Width], *, series: int, label: str) -> str:
    """SVG markup: the pale bar is the width before, the full one the mean after, the thin line from least to most."""
    names = [shorten(w.group, LONGEST) for w in widths]
    said = [_said(w) for w in widths]
    left = max((len(n) for n in names), default=0) * LETTER + 8
    right = WIDTH - max((len(s) for s in said), default=0) * LETTER - 8
    unit = (right - left) / max((w.size for w in widths), default=1)
    svg = canvas(WIDTH, ROW * len(widths) + 4, label)
    for row, width in enumerate(widths):
        top = row * ROW + 2
        name = add(svg, "text", "tick", names[row], x=left - 7, y=top + ROW / 2 + 3.8, text_anchor="end")
        add(name, "title", text=width.group)
        _bar(svg, width, left, top, unit, f"s{series % COLOURS}")
        add(svg, "text", "tick", said[row], x=right + 8, y=top + ROW / 2 + 3.8)
    return written(svg)


def _said(width: Width) -> str:
    """`64 → 47.3 (41–55)`: before, mean after, least and most."""
    kept = width.kept
    if kept.mean is None or kept.low == kept.high:
        return f"{width.size} → {kept.mean:g}" if kept.mean is not None else str(width.size)
    return f"{width.size} → {kept.mean:.1f} ({kept.low:g}–{kept.high:g})"


def _bar(svg: Element, width: Width, left: float, top: float, unit: float, colour: str) -> None:
    box = {"x": left, "y": top + 3, "height": ROW - 6}
    add(svg, "rect", "before", width=width.size * unit, **box)
    kept = width.kept
    if kept.mean is None or kept.low is None or kept.high is None:
        return
    add(svg, "rect", f"after {colour}", width=kept.mean * unit, **box)
    if kept.high > kept.low:
        middle = top + ROW / 2
        add(svg, "line", "range", x1=left + kept.low * unit, x2=left + kept.high * unit, y1=middle, y2=middle)
