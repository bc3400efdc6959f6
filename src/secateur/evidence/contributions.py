"""Contributions: what each unit of a group adds to what a layer gives, as inner products, and ThiNet's greedy choice.

With X_i the columns of X that unit i holds and W_i those of the weight, unit i contributes X_i W_i^T. The inner product
of two contributions is <X_i^T X_j, W_i^T W_j>, so the Gram matrix of the layer's inputs is enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..groups.group import Group
from .base import Evidence
from .inputs_gram import inputs_of
from .least_squares import Layer, centred, energy, solve


def layers_of(group: Group, evidence: Evidence, *, intercept: bool) -> list[Layer]:
    """The layers that read the group, each with its Gram matrix divided by the energy of what the layer gives.

    So square errors of them are relative, and can be added up: their number divides them, too. What a layer gives
    counts without its bias; with `intercept`, without its mean, which an intercept stands for. A layer that gives
    nothing is left out. Raises `BadModel` where a layer has no Gram matrix.
    """
    found = []
    for x in inputs_of(group, evidence):
        gram = centred(x.gram, x.sum, x.count) if intercept else x.gram
        given = float(energy(gram, x.weight))
        if given > 1e-12 * float((gram.diagonal() * x.weight.square()).sum()):
            found.append(Layer(gram / given, x.weight, x.columns))
    return [Layer(x.gram / len(found), x.weight, x.columns) for x in found]


def between(layer: Layer) -> Tensor:
    """(units, units) inner products of what the units contribute to one layer."""
    products = layer.gram * (layer.weight.T @ layer.weight)
    units, m = layer.columns.shape
    at = layer.columns.reshape(-1)
    return products[at][:, at].reshape(units, m, units, m).sum((1, 3))


def contributions(group: Group, evidence: Evidence, *, intercept: bool) -> Tensor:
    """(readers, units, units) inner products, those of each reader relative to the energy of what it gives."""
    found = [between(x) for x in layers_of(group, evidence, intercept=intercept)]
    return torch.stack(found) if found else torch.zeros(1, group.size, group.size, dtype=torch.float64)


def thinet_greedy(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The order in which units go (units,) and, along it, |sum of the contributions of all that are gone|^2.

    Luo, Wu, Lin, "ThiNet", ICCV 2017 (1707.06342), sec. 3.2: each time the one that leaves the least such sum.
    `gram` (units, units): inner products of contributions.
    """
    lost = gram.diagonal().clone()  # what the sum would gain
    order, cost, total = [], [], 0.0
    for _ in range(len(gram)):
        j = int(lost.argmin())
        total += float(lost[j])
        order.append(j)
        cost.append(max(total, 0.0))
        lost = lost + 2 * gram[:, j]
        lost[order] = torch.inf
    return torch.tensor(order), torch.tensor(cost, dtype=torch.float64)


def rescale(gram: Tensor, kept: Tensor, *, ridge: float = 0.0) -> Tensor:
    """(kept,) one factor for each contribution that is kept, so that their sum comes nearest to the sum of all.

    ThiNet, sec. 3.2. The ridge pulls towards 1, the weights as they are.
    """
    gone = torch.ones(len(gram), dtype=torch.bool).index_fill(0, kept, False)
    return 1.0 + solve(gram[kept][:, kept], gram[kept][:, gone].sum(1, keepdim=True), ridge).squeeze(1)


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
