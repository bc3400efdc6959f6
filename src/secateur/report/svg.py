"""Pieces of inline SVG: elements, markers and scales. Colours are the page's CSS variables `--s0` to `--s7`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

COLOURS = 8
# One polygon a shape, of about the same area, within a circle of radius 1; None is the circle itself.
SHAPES: tuple[tuple[tuple[float, float], ...] | None, ...] = (
    None,
    ((-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)),
    ((0, -1.1), (1.05, 0.8), (-1.05, 0.8)),
    ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)),
    ((0, 1.1), (1.05, -0.8), (-1.05, -0.8)),
    tuple((1.1 * math.sin(2 * math.pi * i / 5), -1.1 * math.cos(2 * math.pi * i / 5)) for i in range(5)),
    ((-1, -1.05), (1, -1.05), (-1, 1.05), (1, 1.05)),
)


@dataclass(frozen=True)
class Scale:
    """A straight line from data to pixels, with ticks at round numbers between `low` and `high`."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    digits: int  # decimals that the ticks need

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, *, about: int = 5) -> Scale:
        """A scale that begins and ends at a tick, with about `about` steps; not all `values` may be the same."""
        low, high = min(values), max(values)
        assert high > low
        power = math.floor(math.log10((high - low) / about))
        step = next(m * 10.0**power for m in (1, 2, 5, 10) if m * 10.0**power * about >= (high - low) * (1 - 1e-9))
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        ticks = tuple(i * step for i in range(first, last + 1))
        return cls(first * step, last * step, start, end, ticks, digits)

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def text(self, tick: float) -> str:
        """The tick as it is written."""
        return f"{tick:.{self.digits}f}"


def canvas(width: float, height: float, label: str) -> Element:
    """An SVG that scales with the page and that a screen reader announces as one picture with this label."""
    box = f"0 0 {width:g} {height:g}"
    svg = Element("svg", {"viewBox": box, "role": "img", "aria-label": label, "class": "chart"})
    SubElement(svg, "title").text = label
    return svg


def add(parent: Element, tag: str, kind: str = "", text: str | None = None, **attributes: float | str) -> Element:
    """Append an element of a CSS class; numbers are rounded to hundredths of a pixel. `_` in names stands for `-`."""
    given = {k.replace("_", "-"): v if isinstance(v, str) else f"{round(v, 2):g}" for k, v in attributes.items()}
    element = SubElement(parent, tag, {"class": kind, **given} if kind else given)
    element.text = text
    return element


def marker(parent: Element, series: int, x: float, y: float, size: float = 4.6, title: str | None = None) -> Element:
    """The mark of a series: a colour and a shape that no other of 56 series has together."""
    shape = SHAPES[series % len(SHAPES)]
    kind = f"mark s{series % COLOURS}"
    if shape is None:
        made = add(parent, "circle", kind, cx=x, cy=y, r=size)
    else:
        points = " ".join(f"{x + size * dx:.2f},{y + size * dy:.2f}" for dx, dy in shape)
        made = add(parent, "polygon", kind, points=points)
    if title:
        add(made, "title", text=title)
    return made


def key(series: int) -> str:
    """A mark alone, for a legend; the text beside it says what it stands for."""
    svg = Element("svg", {"viewBox": "-8 -8 16 16", "class": "key", "aria-hidden": "true"})
    marker(svg, series, 0, 0, 5.2)
    return written(svg)


def shorten(text: str, most: int) -> str:
    """The text, or its ends with an ellipsis between where it has more than `most` letters."""
    if len(text) <= most:
        return text
    tail = (most - 1) * 2 // 3
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def written(svg: Element) -> str:
    """The markup, with every text and attribute escaped."""
    return ElementTree.tostring(svg, encoding="unicode")
