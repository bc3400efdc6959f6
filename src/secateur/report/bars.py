"""Widths of each group before and after the cut, as horizontal bars."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from .summary import Width
from .svg import COLOURS, add, canvas, shorten, written

WIDTH, ROW = 360.0, 19.0
LETTER = 6.7  # pixels that a letter or digit of the labels takes in a wide system font
LONGEST = 20  # letters of a group's name


def bars(widths: Sequence[Width], *, series: int, label: str, beside: Sequence[Width] = ()) -> str:
    """SVG markup: the pale bar is the width before, the full one the mean after, the thin line from least to most.

    `beside` are the widths of the pictures that this one is to be compared with: all of them get the same scale.
    """
    every = [*widths, *beside]
    left = max((len(_name(w)) for w in every), default=0) * LETTER + 8
    right = WIDTH - max((len(_said(w)) for w in every), default=0) * LETTER - 8
    unit = (right - left) / max((w.size for w in every), default=1)
    svg = canvas(WIDTH, ROW * len(widths) + 4, label)
    for row, width in enumerate(widths):
        top = row * ROW + 2
        name = add(svg, "text", "tick", _name(width), x=left - 7, y=top + ROW / 2 + 3.8, text_anchor="end")
        add(name, "title", text=width.group)
        _bar(svg, width, left, top, unit, f"s{series % COLOURS}")
        add(svg, "text", "tick", _said(width), x=right + 8, y=top + ROW / 2 + 3.8)
    return written(svg)


def _name(width: Width) -> str:
    return shorten(width.group, LONGEST)


def _said(width: Width) -> str:
    """`64 → 47.3 (41–55)`: before, mean after, least and most."""
    kept = width.kept
    if kept.mean is None or kept.low == kept.high:
        return f"{width.size} → {kept.mean:g}" if kept.mean is not None else str(width.size)
    return f"{width.size} → {kept.mean:.1f} ({kept.low:g}–{kept.high:g})"


def _bar(svg: Element, width: Width, left: float, top: float, unit: float, colour: str) -> None:
    add(svg, "rect", "before", x=left, y=top + 3, width=width.size * unit, height=ROW - 6)
    kept = width.kept
    if kept.mean is None or kept.low is None or kept.high is None:
        return
    add(svg, "rect", f"after {colour}", x=left, y=top + 3, width=kept.mean * unit, height=ROW - 6)
    if kept.high > kept.low:
        middle = top + ROW / 2
        add(svg, "line", "range", x1=left + kept.low * unit, x2=left + kept.high * unit, y1=middle, y2=middle)
