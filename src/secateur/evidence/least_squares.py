"""Least squares on a layer's inputs, from sums alone: fits on the columns that are kept, eliminations that refit.

X holds the rows that a layer reads, G = X^T X their Gram matrix, W (outputs, d) the layer's weight, Y = X W^T what it
gives without its bias. Then X^T Y = G W^T, so that every fit to Y follows from G and W. An intercept is a fit to
centred columns: G - sum sum^T / rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadOption


def centred(gram: Tensor, total: Tensor, count: int) -> Tensor:
    """(d, d): the Gram matrix of X less its column means, from that of X, the sum of its rows and their number."""
    return gram - torch.outer(total, total) / count


def energy(gram: Tensor, weight: Tensor) -> Tensor:
    """|X W^T|^2, a scalar."""
    return ((weight @ gram) * weight).sum()


def loaded(gram: Tensor, ridge: float) -> Tensor:
    """The matrix with `ridge` of its mean diagonal added to its diagonal."""
    load = ridge * gram.diagonal().mean() + torch.finfo(torch.float64).tiny
    return gram + load * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


def check_ridge(ridge: float) -> None:
    """Raise `BadOption` unless it is a number from 0 up."""
    if not 0 <= ridge < float("inf"):
        raise BadOption(f"ridge={ridge!r}: give a number from 0, such as 1e-6, of the mean diagonal")


def solve(gram: Tensor, right: Tensor, ridge: float) -> Tensor:
    """(d, outputs): z with G z = right; without a ridge the shortest such z, where dependent columns leave a choice."""
    return torch.linalg.solve(loaded(gram, ridge), right) if ridge else torch.linalg.pinv(gram, hermitian=True) @ right


def refit(
    gram: Tensor, weight: Tensor, kept: Tensor, *, total: Tensor | None = None, count: int = 1, ridge: float = 0.0
) -> tuple[Tensor, Tensor]:
    """(outputs, kept) weights on some columns that bring them nearest to what all gave, and the intercept (outputs,).

    He et al., ICCV 2017 (1707.06168), sec. 3. `kept`: columns; `total` (d,) and `count`: the sum of the rows and their
    number, without which there is no intercept. The ridge pulls towards the weights as they are.
    """
    if total is not None:
        gram = centred(gram, total, count)
    gone = torch.ones(len(gram), dtype=torch.bool).index_fill(0, kept, False).nonzero().flatten()
    right = gram[kept][:, gone] @ weight[:, gone].T
    fitted = weight[:, kept] + solve(gram[kept][:, kept], right, ridge).T
    if total is None:
        return fitted, torch.zeros(len(weight), dtype=gram.dtype)
    return fitted, (weight @ total - fitted @ total[kept]) / count


def residual(gram: Tensor, weight: Tensor, kept: Tensor, fitted: Tensor) -> float:
    """|X W^T - X_kept fitted^T|^2."""
    return float(energy(gram, weight.index_add(1, kept, fitted, alpha=-1.0)))


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer that reads units: its weight (outputs, d), the Gram matrix (d, d), and the columns of each unit."""

    gram: Tensor
    weight: Tensor
    columns: Tensor  # (units, m)


class Elimination:
    """A layer whose units go one by one, while the weights on all other columns are the best fit to what it gave.

    The optimal brain surgeon (Hassibi and Stork, NIPS 1992) with the Gram matrix as the Hessian, the same for each
    output, and groups of weights. The ridge, of the mean diagonal, pulls towards the dense weights; its pull counts in
    the costs.
    """

    def __init__(self, layer: Layer, ridge: float) -> None:
        units, self._m = layer.columns.shape
        own = layer.columns.flatten()
        others = torch.ones(len(layer.gram), dtype=torch.bool).index_fill(0, own, False).nonzero().flatten()
        self._first = len(others)
        self._columns = torch.cat([others, own])  # those that stay, then those of units; the last unit goes
        self._units = list(range(units))  # as they lie
        self._inverse = torch.linalg.inv(loaded(layer.gram[self._columns][:, self._columns], ridge))
        self._weight = layer.weight[:, self._columns].clone()

    def costs(self) -> Tensor:
        """(units,): by how much the square error rises when a unit goes and the rest is fitted; inf for those gone.

        sum over outputs o of w_oS^T ([G^-1]_SS)^-1 w_oS, twice the saliency of a loss that is half the square error.
        """
        n, at = len(self._units), slice(self._first, self._first + len(self._units) * self._m)
        square = self._inverse[at, at].unflatten(0, (n, self._m)).unflatten(2, (n, self._m))
        held = self._weight[:, at].unflatten(1, (n, self._m)).permute(1, 2, 0)  # (units left, m, outputs)
        solved = torch.linalg.solve(square.diagonal(dim1=0, dim2=2).movedim(-1, 0), held @ held.mT)
        cost = solved.diagonal(dim1=1, dim2=2).sum(1).clamp_min(0)
        gone = torch.full((int(self._columns.numel() - self._first) // self._m,), torch.inf, dtype=cost.dtype)
        return gone.index_copy(0, torch.tensor(self._units), cost)

    def remove(self, unit: int) -> None:
        """The unit goes; weights and inverse are brought to what is left."""
        self._last(self._units.index(unit))
        left = self._first + len(self._units) * self._m - self._m
        gone = slice(left, left + self._m)
        ahead = torch.linalg.solve(self._inverse[gone, gone], self._inverse[gone, :left])  # (m, left)
        self._inverse[:left, :left].addmm_(self._inverse[:left, gone], ahead, alpha=-1)
        self._weight[:, :left].addmm_(self._weight[:, gone], ahead, alpha=-1)
        self._units.pop()

    def _last(self, at: int) -> None:
        """Exchange a unit with the last one that is left, so that what is left stays one block."""
        m, last = self._m, len(self._units) - 1
        here, there = (torch.arange(m) + self._first + u * m for u in (at, last))
        one, other = torch.cat([here, there]), torch.cat([there, here])
        self._inverse[one] = self._inverse[other]
        self._inverse[:, one] = self._inverse[:, other]
        self._weight[:, one] = self._weight[:, other]
        self._columns[one] = self._columns[other]
        self._units[at], self._units[last] = self._units[last], self._units[at]

    def weight(self) -> Tensor:
        """(outputs, d) as it is by now; zero for what is gone."""
        left = self._first + len(self._units) * self._m
        return torch.zeros_like(self._weight).index_copy(1, self._columns[:left], self._weight[:, :left])


def eliminate(layers: Sequence[Layer], *, ridge: float) -> tuple[Tensor, Tensor]:
    """Remove units one by one, each time the one whose loss costs least once all other columns are refitted.

    Gives the order of removal (units,) and, along it, the summed square error so far, of all layers together.
    """
    held = [Elimination(x, ridge) for x in layers]
    order, cost = [], []
    for _ in range(len(layers[0].columns)):
        costs = torch.stack([x.costs() for x in held]).sum(0)
        order.append(int(costs.argmin()))
        cost.append(float(costs[order[-1]]))
        for x in held:
            x.remove(order[-1])
    return torch.tensor(order), torch.tensor(cost, dtype=torch.float64).cumsum(0)
