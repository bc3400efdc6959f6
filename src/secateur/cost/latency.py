"""Latency: milliseconds of one forward at any widths, from tables measured op by op and fitted to whole models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import BadBudget
from .ops import BLOCK, KINDS, Timed

Floats = NDArray[np.float64]
EVERY = slice(None)
FEATURES = ("constant", *KINDS, "activations", "weights")
Phase = tuple[tuple[float, ...], tuple[float, ...]]
PLAIN: Phase = (tuple(float(r) for r in range(BLOCK)), (1.0,) * BLOCK)  # no staircase, no width that is slow
Phases = Mapping[tuple[str, int], Phase]


@dataclass(frozen=True, eq=False)
class Latency:
    """What was measured on one engine of one machine; `CostModel(graph, latency)` predicts with it.

    `tables`: key of an op -> milliseconds at each point of its grid. `phases`: (kind of op, which length) -> for each
    remainder of a width by a block of 16, how many columns it takes, as measured (0, 16, 16, ... of a perfect
    staircase), and how many times slower it is than the next full block where it is slower. `fit`: what each of
    `FEATURES` counts, found from whole models; `error` is the median relative error on those, each predicted from the
    others.
    """

    engine: str
    threads: int
    tables: Mapping[str, Floats]
    phases: Phases = field(default_factory=dict)
    fit: tuple[float, ...] = (0.0, *(1.0 for _ in KINDS), 0.0, 0.0)
    error: float = float("nan")
    about: Mapping[str, str] = field(default_factory=dict)  # device, version, dtype


@dataclass(frozen=True)
class Row:
    """One term, ready to be looked up: lines of the cost's matrix that give its lengths."""

    timed: Timed
    live: tuple[int, ...]  # line of each live length
    scaled: tuple[tuple[int, int], ...]  # (line, dense length) of those that time is in proportion to


class Predictor:
    """Looks terms up in tables, all at once, for many widths."""

    def __init__(self, latency: Latency, rows: Sequence[Row]) -> None:
        self.fit = np.array(latency.fit)
        self._kinds = np.array([KINDS.index(r.timed.op.kind) for r in rows], dtype=np.int64)
        found = [_padded(r, latency) for r in rows]
        self._lines = np.array([f[0] for f in found], dtype=np.int64).reshape(-1, 2)
        self._grids = np.array([f[1] for f in found]).reshape(len(rows), 2, -1)
        self._values = np.array([f[2] for f in found]).reshape(len(rows), self._grids.shape[2], self._grids.shape[2])
        phases = np.array([f[3] for f in found]).reshape(len(rows), 2, 2, BLOCK)
        self._columns, self._slower = phases[:, :, 0], phases[:, :, 1]
        depth = max((len(r.scaled) for r in rows), default=0)
        self._scaled = np.zeros((len(rows), depth), dtype=np.int64)
        self._per = np.ones((len(rows), depth))
        for i, row in enumerate(rows):
            for j, (line, size) in enumerate(row.scaled):
                self._scaled[i, j], self._per[i, j] = line, size

    def features(self, lengths: Floats, activations: Floats, weights: Floats) -> Floats:
        """(features, options) from (lines, options) lengths of axes and (options,) gigabytes."""
        found = np.zeros((len(FEATURES), lengths.shape[1]))
        found[0] = 1.0
        each = self.looked_up(lengths)
        for kind in range(len(KINDS)):
            found[1 + kind] = each[self._kinds == kind].sum(0)
        found[-2], found[-1] = activations, weights
        return found

    def counted(self, each: Floats, rows: NDArray[np.int64] | slice = EVERY) -> Floats:
        """(options,) milliseconds that these terms add to the forward, from (terms, options) by the tables."""
        found: Floats = self.fit[1 + self._kinds[rows]] @ each
        return found

    def touching(self, lines: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The terms that read any of these lines."""
        scaled = lines[self._scaled].any(1) if self._scaled.size else False
        return np.flatnonzero(lines[self._lines].any(1) | scaled)

    def looked_up(self, lengths: Floats, rows: NDArray[np.int64] | slice = EVERY) -> Floats:
        """(terms, options) milliseconds by the tables, of all terms or of some."""
        scaled, values = self._scaled[rows], self._values[rows]
        scale = (lengths[scaled] / self._per[rows][:, :, None]).prod(1) if scaled.size else 1.0
        taken = lengths[self._lines[rows]]  # (terms, 2, options)
        there = (taken > 0).all(1)
        whole, rest = np.divmod(taken.astype(np.int64), BLOCK)
        columns = whole * BLOCK + np.take_along_axis(self._columns[rows], rest, axis=2)
        at, part = self._between(columns, self._grids[rows])
        n = np.arange(len(taken))[:, None]
        low, high = at[:, 0], at[:, 1]
        x, y = part[:, 0], part[:, 1]
        last = values.shape[1] - 1
        low_up, high_up = np.minimum(low + 1, last), np.minimum(high + 1, last)
        near = values[n, low, high] * (1 - x) + values[n, low_up, high] * x
        far = values[n, low, high_up] * (1 - x) + values[n, low_up, high_up] * x
        slower = np.take_along_axis(self._slower[rows], rest, axis=2).max(
            1
        )  # one side is enough to leave the quick path
        found: Floats = (near * (1 - y) + far * y) * slower * there * scale
        return found

    @staticmethod
    def _between(columns: Floats, grids: Floats) -> tuple[NDArray[np.int64], Floats]:
        """For each length, the point of its grid at or below it, and how far it is to the next; ends are held."""
        count = grids.shape[2]
        below = (grids[:, :, :, None] <= columns[:, :, None, :]).sum(2) - 1
        at = np.clip(below, 0, max(count - 2, 0))
        start = np.take_along_axis(grids, at, axis=2)
        step = np.take_along_axis(grids, np.minimum(at + 1, count - 1), axis=2) - start
        with np.errstate(invalid="ignore", divide="ignore"):
            part = np.where(np.isfinite(step) & (step > 0), (columns - start) / step, 0.0)
        return at, np.clip(part, 0.0, 1.0)


def _padded(row: Row, latency: Latency) -> tuple[list[int], Floats, Floats, Floats]:
    """Lines, grids, values and phases of a term, all of one shape; a grid that is shorter goes on at infinity."""
    timed, size = row.timed, 5
    lines, grids = [0, 0], np.full((2, size), np.inf)
    columns = np.tile(np.array(PLAIN), (2, 1, 1))
    if timed.key not in latency.tables:
        raise BadBudget(
            f"the latency given holds no table of a {timed.op.kind} of lengths {timed.op.lengths}: it was measured of "
            "another model, or with other groups frozen; measure_latency(graph, ...) of this graph"
        )
    values = np.asarray(latency.tables[timed.key]).reshape([len(g) for g in timed.grid] or [1])
    values = values.reshape(values.shape + (1,) * (2 - values.ndim))
    grids[:, 0] = 0.0  # of a length that no plan changes
    for i, (line, grid, place) in enumerate(zip(row.live, timed.grid, timed.live, strict=True)):
        lines[i], grids[i] = line, np.inf
        grids[i, : len(grid)] = grid
        columns[i] = latency.phases.get((timed.op.kind, place), PLAIN)
    shape: tuple[int, ...] = values.shape
    held = values[np.ix_(*(np.minimum(np.arange(size), length - 1) for length in shape))]  # the last goes on
    return lines, grids, held, columns
