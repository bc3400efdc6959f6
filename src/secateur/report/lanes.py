"""Groups as lines beside the layers: from the first layer that has to do with a group to the last, piece by piece."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

from .layers import Block, Layer
from .svg import add, written

MOST = 8  # lines side by side
APART = 10  # pixels
LAYER, ONE, THIN, HEAD = 64, 50, 34, 38  # heights of a layer, of one that only writes or only scales, of a head


class Lanes:
    """Which line is whose: each group has one while it lives, if fewer than `MOST` others do."""

    def __init__(self, root: Block) -> None:
        self.rows: dict[int, list[int]] = {}  # group -> layers that have to do with it, in order
        self.written: dict[int, set[int]] = {}
        for layer in root.layers():
            for group in sorted(layer.groups):
                self.rows.setdefault(group, []).append(layer.row)
            for part in layer.writes:
                self.written.setdefault(part.group, set()).add(layer.row)
        self.lane: dict[int, int] = {}
        free_from = [0] * MOST
        for group, rows in sorted(self.rows.items(), key=lambda item: (item[1][0], -item[1][-1])):
            lane = next((i for i, free in enumerate(free_from) if free <= rows[0]), None)
            if lane is not None and len(rows) > 1:
                self.lane[group] = lane
                free_from[lane] = rows[-1] + 1
        self.count = max(self.lane.values(), default=-1) + 1
        self.width = self.count * APART + 2

    @property
    def left_out(self) -> int:
        """Groups of several layers for which there was no line."""
        return sum(len(rows) > 1 for rows in self.rows.values()) - len(self.lane)

    def beside_layer(self, layer: Layer) -> str:
        """The piece beside a layer, with a mark for each group: full where it is written, a ring elsewhere."""
        height = LAYER if layer.reads else ONE if layer.writes else THIN
        svg = self._canvas(height)
        for group, x, rows in self._all():
            if rows[0] <= layer.row <= rows[-1]:
                self._line(svg, group, x, height, rows[0] < layer.row, rows[-1] > layer.row)
                if layer.row in rows:
                    self._mark(svg, group, x, height, layer.row in self.written.get(group, ()))
        return written(svg)

    def beside_head(self, block: Block) -> str:
        """The piece beside the head of a block: lines that go past, and when it is closed, what is done inside."""
        svg = self._canvas(HEAD)
        inside = [layer.row for layer in block.layers()]
        first, last = inside[0], inside[-1]
        opened, closed = SubElement(svg, "g", {"class": "o"}), SubElement(svg, "g", {"class": "c"})
        for group, x, rows in self._all():
            above, below = rows[0] < first <= rows[-1], rows[0] <= last < rows[-1]
            if above:
                self._line(opened, group, x, HEAD, True, True)
            if above or below:
                self._line(closed, group, x, HEAD, above, below)
                if any(first <= row <= last for row in rows):
                    hit = any(first <= row <= last for row in self.written.get(group, ()))
                    self._mark(closed, group, x, HEAD, hit)
        return written(svg)

    def _all(self) -> list[tuple[int, float, list[int]]]:
        return [(g, APART * (lane + 0.5) + 1, self.rows[g]) for g, lane in self.lane.items()]

    def _canvas(self, height: float) -> Element:
        size = {"width": f"{self.width}", "height": f"{height}"}
        return Element("svg", {"class": "lanes", "aria-hidden": "true", **size})

    def _line(self, parent: Element, group: int, x: float, height: float, above: bool, below: bool) -> None:
        if above or below:
            start, end = 0 if above else height / 2, height if below else height / 2
            add(parent, "path", f"x g{group}", d=f"M{x:g} {start:g}V{end:g}")

    def _mark(self, parent: Element, group: int, x: float, height: float, full: bool) -> None:
        add(parent, "circle", f"x g{group}" if full else f"x r g{group}", cx=x, cy=height / 2, r=3.6)
