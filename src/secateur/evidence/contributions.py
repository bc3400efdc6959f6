"""Contributions: what each unit of a group adds to what a layer gives, as inner products, and ThiNet's greedy choice.

With X_i the columns of X that unit i holds and W_i those of the weight, unit i contributes X_i W_i^T. The inner product
of two contributions is <X_i^T X_j, W_i^T W_j>, so the Gram matrix of the layer's inputs is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..groups.group import Group
from .base import Evidence
from .inputs_gram import Inputs, inputs_of
from .least_squares import Layer, centred, energy, solve


@dataclass(frozen=True, eq=False)
class Aimed(Layer):
    """A layer that shall give Y and gives X W^T: what it lacks is E = Y - X W^T, nothing where it was left alone."""

    name: str  # of the weight
    lacks: Tensor | None  # (d, outputs) X^T E
    error: float  # |E|^2

    def missed(self) -> Tensor:
        """(units,) inner products of what each unit contributes with E."""
        each = torch.zeros_like(self.weight[0]) if self.lacks is None else (self.lacks.T * self.weight).sum(0)
        return each[self.columns].sum(1)


@dataclass(frozen=True, eq=False)
class Problem:
    """Contributions of units to what layers give, as inner products, each layer's relative to what it shall give."""

    between: Tensor  # (layers, units, units)
    lacks: Tensor  # (layers, units) with what the layer lacks
    error: float  # |what is lacking|^2, of all layers


def layers_of(group: Group, evidence: Evidence, *, intercept: bool) -> list[Aimed]:
    """The layers that read the group, each with its Gram matrix divided by the energy of what the layer shall give.

    So square errors of them are relative, and can be added up: their number divides them, too. What a layer gives
    counts without its bias; with `intercept`, and where one has a place, without its mean, which it stands for. A layer
    that shall give nothing is left out. Raises `BadModel` where a layer has no Gram matrix.
    """
    found = []
    for x in inputs_of(group, evidence):
        free = intercept and x.free
        gram = centred(x.gram, x.sum, x.count) if free else x.gram
        given, lacks, error = _aim(x, gram, free)
        if given > 1e-12 * float((gram.diagonal() * x.weight.square()).sum()):
            lacks = None if lacks is None else lacks / given
            found.append(Aimed(gram / given, x.weight, x.columns, x.name, lacks, error / given))
    n = len(found)
    return [
        replace(x, gram=x.gram / n, lacks=None if x.lacks is None else x.lacks / n, error=x.error / n) for x in found
    ]


def _aim(x: Inputs, gram: Tensor, free: bool) -> tuple[float, Tensor | None, float]:
    """|Y|^2, X^T E and |E|^2, of centred rows where an intercept is free."""
    gives = float(energy(gram, x.weight))
    if x.target is None:
        return gives, None, 0.0
    cross, square = x.target.cross, x.target.square
    if free:
        cross = cross - torch.outer(x.sum, x.target.sum) / x.count
        square = square - float(x.target.sum.square().sum()) / x.count
    error = square - 2 * float((cross.T * x.weight).sum()) + gives
    return square, cross - gram @ x.weight.T, max(error, 0.0)


def between(layer: Layer) -> Tensor:
    """(units, units) inner products of what the units contribute to one layer."""
    products = layer.gram * (layer.weight.T @ layer.weight)
    units, m = layer.columns.shape
    at = layer.columns.reshape(-1)
    return products[at][:, at].reshape(units, m, units, m).sum((1, 3))


def problem(group: Group, evidence: Evidence, *, intercept: bool) -> Problem:
    """Of the layers that read the group; zeros where none of them shall give anything."""
    layers = layers_of(group, evidence, intercept=intercept)
    if not layers:
        nothing = torch.zeros(1, group.size, group.size, dtype=torch.float64)
        return Problem(nothing, nothing[:, 0], 0.0)
    grams, lacks = torch.stack([between(x) for x in layers]), torch.stack([x.missed() for x in layers])
    return Problem(grams, lacks, sum(x.error for x in layers))


def contributions(group: Group, evidence: Evidence, *, intercept: bool) -> Tensor:
    """(readers, units, units) inner products, those of each reader relative to the energy of what it gives."""
    return problem(group, evidence, intercept=intercept).between


def thinet_greedy(gram: Tensor, lacks: Tensor | None = None, error: float = 0.0) -> tuple[Tensor, Tensor]:
    """The order in which units go (units,) and, along it, |sum of the contributions of all that are gone|^2.

    Luo, Wu, Lin, "ThiNet", ICCV 2017 (1707.06342), sec. 3.2: each time the one that leaves the least such sum.
    `gram` (units, units): inner products of contributions. Where something was lacking before, it is in the sum: its
    products `lacks` (units,) with contributions, and its square `error`.
    """
    lost = gram.diagonal() + (0 if lacks is None else 2 * lacks)  # what the sum would gain
    order, cost, total = [], [], error
    for _ in range(len(gram)):
        j = int(lost.argmin())
        total += float(lost[j])
        order.append(j)
        cost.append(max(total, 0.0))
        lost = lost + 2 * gram[:, j]
        lost[order] = torch.inf
    return torch.tensor(order), torch.tensor(cost, dtype=torch.float64)


def rescale(gram: Tensor, kept: Tensor, *, lacks: Tensor | None = None, ridge: float = 0.0) -> Tensor:
    """(kept,) one factor for each contribution that is kept, so that their sum comes nearest to the sum of all.

    ThiNet, sec. 3.2. Where the sum of all lacked something before, `lacks` (units,) holds its products with them. The
    ridge pulls towards 1, the weights as they are.
    """
    gone = torch.ones(len(gram), dtype=torch.bool).index_fill(0, kept, False)
    right = gram[kept][:, gone].sum(1) + (0 if lacks is None else lacks[kept])
    return 1.0 + solve(gram[kept][:, kept], right[:, None], ridge).squeeze(1)


def left_over(gram: Tensor, kept: Tensor, factors: Tensor) -> float:
    """|sum of all contributions - factors * those kept|^2."""
    missing = torch.ones(len(gram), dtype=gram.dtype).index_add(0, kept, factors.to(gram), alpha=-1.0)
    return float(missing @ gram @ missing)


def rising(order: Tensor, cost: Tensor | Sequence[float]) -> Tensor:
    """(units,) scores from an order of removal and the error after each: no lower than any before, strictly rising.

    Where the error does not rise, or falls, the order alone decides, by steps of 1e-12 of the largest.
    """
    along = torch.as_tensor(cost, dtype=torch.float64).clamp_min(0).cummax(0).values
    step = 1e-12 * max(float(along[-1]), 1.0)
    return torch.zeros_like(along).index_copy(0, order, along + step * torch.arange(len(along)))
