"""Labels: one integer per index of a tensor axis; indices with one label live or die together.

Label 0 is never cut: batch, space, time, constants and whatever else no pruning may touch. All other labels are born
on the axes of parameters and buffers and flow through the forward. Rules only ever say "these labels are the same"
(`unify`), "these must stay" (`freeze`) and "this axis is seen as several" (`product`); `solve.py` finds the classes
once, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, eq=False)
class Product:
    """One axis seen as several, such as heads x head_dim: index (i, j) lives if i and j do.

    What is left must again be such a box, so that only one of the parts can be cut; `solve` chooses which.
    """

    whole: Axis  # (n,) in the order of the parts
    parts: tuple[Axis, ...]
    path: str


class Labels:
    """The ledger that rules write to."""

    def __init__(self) -> None:
        self.count = 1
        self.pairs: list[tuple[Axis, Axis]] = []
        self.freezes: list[Freeze] = []
        self.ranks: list[Freeze] = []  # frozen, unless it turns out that they are experts
        self.products: list[Product] = []

    def fresh(self, n: int) -> Axis:
        """`n` labels never used before."""
        self.count += n
        return np.arange(self.count - n, self.count, dtype=np.int64)

    def unify(self, a: Axis, b: Axis, path: str) -> Axis:
        """Say that two axes of equal length carry the same indices; returns the one to carry on."""
        if a is b:
            return a
        assert a.shape == b.shape, (a.shape, b.shape)
        if a.all() and b.all():
            self.pairs.append((a, b))
            return a
        a_live, b_live = a > 0, b > 0
        both = a_live & b_live
        if both.any():
            self.pairs.append((a[both], b[both]))
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

    def rank(self, labels: Axis, reason: str, path: str) -> None:
        """Say that these labels must stay, unless they are those of experts."""
        labels = labels[labels > 0]
        if labels.size:
            self.ranks.append(Freeze(labels, reason, path))

    def product(self, whole: Axis, parts: tuple[Axis, ...], path: str) -> None:
        """Say that an axis is seen as several, the last running fastest."""
        self.products.append(Product(whole, parts, path))
