"""Labels: one integer per index of a tensor axis; indices with one label live or die together.

Label 0 is never cut: batch, space, time, constants and whatever else no pruning may touch. All other labels are born
on the axes of parameters and buffers and flow through the forward. Rules only ever say "these labels are the same"
(`unify`) and "these must stay" (`freeze`); classes are found once, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Axis = NDArray[np.int64]  # (n,) one label per index
FROZEN = 0


def frozen_axis(n: int) -> Axis:
    """An axis of `n` indices that is never cut."""
    return np.zeros(n, dtype=np.int64)


def is_live(axis: Axis) -> bool:
    """Whether any index of the axis could be cut."""
    return bool(axis.any())


@dataclass(frozen=True)
class Freeze:
    """Labels that must stay, and why."""

    labels: Axis
    reason: str
    path: str


class Labels:
    """The ledger that rules write to."""

    def __init__(self) -> None:
        self._count = 1
        self._left: list[Axis] = []
        self._right: list[Axis] = []
        self.freezes: list[Freeze] = []

    def fresh(self, n: int) -> Axis:
        """`n` labels never used before."""
        self._count += n
        return np.arange(self._count - n, self._count, dtype=np.int64)

    def unify(self, a: Axis, b: Axis, path: str) -> Axis:
        """Say that two axes of equal length carry the same indices; returns the one to carry on."""
        if a is b:
            return a
        assert a.shape == b.shape, (a.shape, b.shape)
        a_live, b_live = a > 0, b > 0
        both = a_live & b_live
        if both.any():
            self._left.append(a[both])
            self._right.append(b[both])
        lone = a_live ^ b_live
        if lone.any():
            # Where one side is fixed the other must be; the model's inputs and constants are the usual fixed side.
            self.freeze(np.maximum(a, b)[lone], "combined with a tensor of fixed width", path)
        return a if a_live.any() else b

    def freeze(self, labels: Axis, reason: str, path: str) -> None:
        """Say that these labels must stay."""
        labels = labels[labels > 0]
        if labels.size:
            self.freezes.append(Freeze(labels, reason, path))

    def classes(self) -> tuple[Axis, dict[int, Freeze]]:
        """Solve: class of every label, (count,), and the first freeze that names each frozen class."""
        left = np.concatenate(self._left) if self._left else frozen_axis(0)
        right = np.concatenate(self._right) if self._right else frozen_axis(0)
        links = coo_matrix((np.ones(left.size, dtype=np.int8), (left, right)), shape=(self._count, self._count))
        _, classes = connected_components(links, directed=False)
        classes = classes.astype(np.int64)
        frozen: dict[int, Freeze] = {}
        for freeze in self.freezes:
            for c in np.unique(classes[freeze.labels]):
                frozen.setdefault(int(c), freeze)
        return classes, frozen
