"""LASSO from a Gram matrix: one penalty, a wanted number of columns, or the whole path.

min over b of 1/2 b^T A b - t^T b + penalty |b|_1, with A = Z^T Z / rows and t = Z^T y / rows. Each column j of Z is one
channel's contribution to what a layer gives, y their sum: t = A 1, and without a penalty b = 1 fits exactly.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
DEPENDENT = 1e-10  # a column is a combination of others if less than this part of its energy is its own


def largest_penalty(target: Vector) -> float:
    """The smallest penalty that leaves no column: max |t|."""
    return float(np.abs(target).max(initial=0.0))


def lasso(
    gram: Vector, target: Vector, penalty: float, *, start: Vector | None = None, tol: float = 1e-10, sweeps: int = 5000
) -> Vector:
    """(columns,) coefficients by coordinate descent on A b (Friedman, Hastie, Tibshirani, J. Stat. Softw. 2010, 2.2).

    Sweeps over the columns that are in, or break the optimality conditions outside, until none does and no fit moves by
    more than `tol` of the largest one; at most `sweeps` sweeps.
    """
    live = ~_nothing(gram)
    b = np.zeros_like(target) if start is None else np.where(live, start, 0.0)
    moved, size = gram @ b, np.sqrt(gram.diagonal().max(initial=0.0))
    for _ in range(sweeps):
        inside = b != 0
        entering = live & ~inside & (np.abs(target - moved) > penalty * (1 + tol))
        change = _sweep(gram, target, penalty, b, moved, np.flatnonzero(inside | entering))
        if change <= tol * size * max(1.0, float(np.abs(b).max(initial=0.0))):
            break
    return b


def _sweep(gram: Vector, target: Vector, penalty: float, b: Vector, moved: Vector, columns: NDArray[np.int64]) -> float:
    """Set each of these coefficients to its best, one after another, in place; the largest change of a fit."""
    change = 0.0
    for j in columns.tolist():
        own, before = float(gram[j, j]), float(b[j])
        pull = float(target[j] - moved[j]) + own * before
        b[j] = (pull - penalty if pull > penalty else pull + penalty if pull < -penalty else 0.0) / own
        step = float(b[j]) - before
        if step:
            moved += step * gram[:, j]
            change = max(change, abs(step) * own**0.5)
    return change


def lasso_path(gram: Vector, target: Vector) -> list[tuple[float, Vector]]:
    """(penalty, coefficients) at every bend of the path from `largest_penalty` down to 0; straight lines in between.

    Osborne, Presnell, Turlach, IMA J. Numer. Anal. 2000; Efron et al., "Least Angle Regression", Ann. Stat. 2004, sec.
    3.1. A column that is a combination of those inside stays out while it is one: of equal columns one comes in.
    """
    path = _Path(gram, target)
    bends = [(path.penalty, path.b.copy())]
    for _ in range(path.most):
        if path.penalty == 0:
            break
        path.step()
        if path.penalty < bends[-1][0]:
            bends.append((path.penalty, path.b.copy()))
    return bends


def entries(bends: list[tuple[float, Vector]]) -> Vector:
    """(columns,) the largest penalty at which each column is in; 0 for those that never are."""
    found = np.zeros_like(bends[0][1])
    for (penalty, _), (_, b) in pairwise(bends):
        found[(b != 0) & (found == 0)] = penalty
    return found


def lasso_count(gram: Vector, target: Vector, count: int) -> NDArray[np.int64]:
    """(count,) the columns that are in at the largest penalty at which so many are, in rising order.

    He, Zhang, Sun, ICCV 2017 (1707.06168), sec. 3, search for that penalty; the path comes by it, for columns come and
    go one at a time. Where fewer than `count` say everything, those of most energy among the rest come, too.
    """
    path = _Path(gram, target)
    for _ in range(path.most):
        if len(path.inside) == count or path.penalty == 0:
            break
        path.step()
    rest = np.setdiff1d(np.arange(len(target)), path.inside)
    order = rest[np.argsort(-gram.diagonal()[rest], kind="stable")]
    return np.sort(np.array([*path.inside, *order], dtype=np.int64)[:count])


class _Path:
    """The state at one bend: which columns are in, with which sign, and the inverse of their Gram matrix."""

    def __init__(self, gram: Vector, target: Vector) -> None:
        self.gram, self.target = gram, target
        self.penalty, self.b = largest_penalty(target), np.zeros_like(target)
        self.inside: list[int] = []
        self.signs = np.zeros_like(target)
        self.shut = _nothing(gram)  # columns that cannot come in
        self.most = 20 * len(target) + 20  # steps; a column seldom comes in twice, so no path is nearly as long
        self._inverse = np.zeros_like(gram)  # its first len(inside) rows and columns

    @property
    def inverse(self) -> Vector:
        """Of the Gram matrix of the columns inside, a view."""
        return self._inverse[: len(self.inside), : len(self.inside)]

    def step(self) -> None:
        """To the next bend: on the way there b = level - penalty * slope, and the correlations are lines too."""
        level, slope = np.zeros_like(self.target), np.zeros_like(self.target)
        level[self.inside] = self.inverse @ self.target[self.inside]
        slope[self.inside] = self.inverse @ self.signs[self.inside]
        moved = self.gram @ np.stack([level, slope], 1)
        enters, sign = self._entering(self.target - moved[:, 0], moved[:, 1])
        leaves = np.where(slope * self.signs < 0, level / np.where(slope == 0, 1.0, slope), -1.0)
        leaves[leaves > self.penalty * (1 - 1e-12)] = -1.0
        coming, going = float(enters.max(initial=0.0)), float(leaves.max(initial=0.0))
        self.penalty = min(self.penalty, max(coming, going, 0.0))
        self.b = level - self.penalty * slope
        if going > coming:
            self._out(int(leaves.argmax()))
        elif coming > 0:
            self._in(int(enters.argmax()), sign)

    def _entering(self, rest: Vector, tilt: Vector) -> tuple[Vector, Vector]:
        """The penalty at which each column's |rest + penalty * tilt| reaches the penalty, and with which sign."""
        ahead, gap = np.stack([rest, -rest]), np.stack([1 - tilt, 1 + tilt])
        outside = ~self.shut
        outside[self.inside] = False
        crosses = outside & (gap > 0)  # else it comes from its bound and moves away from it
        both = np.where(crosses, ahead / np.where(crosses, gap, 1.0), -1.0)
        both[both > self.penalty * (1 + 1e-9)] = -1.0
        return both.max(0), np.where(both[0] >= both[1], 1.0, -1.0)

    def _in(self, j: int, sign: Vector) -> None:
        ahead = self.inverse @ self.gram[self.inside, j]
        own = self.gram[j, j] - self.gram[j, self.inside] @ ahead
        if own <= DEPENDENT * self.gram[j, j]:
            self.shut[j] = True
            return
        self.inside.append(j)
        self.signs[j] = sign[j]
        edge = np.append(-ahead, 1.0)
        self.inverse[:] += np.outer(edge, edge) / own

    def _out(self, j: int) -> None:
        inverse, at = self.inverse, self.inside.index(j)
        column = inverse[:, at].copy()
        inverse -= np.outer(column, column) / column[at]
        inverse[at], self.inside[at] = inverse[-1], self.inside[-1]  # the last one takes its place
        inverse[:, at] = inverse[:, -1]
        inverse[-1], inverse[:, -1] = 0.0, 0.0
        self.inside.pop()
        self.signs[j], self.b[j] = 0.0, 0.0
        self.shut = _nothing(self.gram)  # what was a combination of those inside may be none now


def _nothing(gram: Vector) -> NDArray[np.bool_]:
    """(columns,) which columns are zero, or nothing beside the largest."""
    diagonal = gram.diagonal()
    nothing: NDArray[np.bool_] = diagonal <= DEPENDENT**2 * diagonal.max(initial=0.0)
    return nothing
