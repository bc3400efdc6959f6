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


def removal_costs(inverse: Tensor, weight: Tensor, columns: Tensor) -> Tensor:
    """(units,): by how much |X W^T - X V^T|^2 rises when a unit's columns go and the best V on the others is taken.

    sum over outputs o of w_oS^T ([G^-1]_SS)^-1 w_oS, which is twice the saliency of a group S of weights in the optimal
    brain surgeon (Hassibi and Stork, NIPS 1992), of a loss half the square error.
    """
    block = inverse[columns[:, :, None], columns[:, None, :]]
    held = weight[:, columns].movedim(0, 2)  # (units, m, outputs)
    return (held * torch.linalg.solve(block, held)).sum((1, 2)).clamp_min(0)


def remove(inverse: Tensor, weight: Tensor, gone: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse Gram matrix and the refitted weight when columns go; both are zero there afterwards."""
    ahead = torch.linalg.solve(inverse[gone][:, gone], inverse[gone])  # (m, d)
    weight = (weight - weight[:, gone] @ ahead).index_fill(1, gone, 0.0)
    inverse = inverse - inverse[:, gone] @ ahead
    return inverse.index_fill(0, gone, 0.0).index_fill(1, gone, 0.0), weight


def eliminate(layers: Sequence[Layer], *, ridge: float) -> tuple[Tensor, Tensor]:
    """Remove units one by one, each time the one whose loss costs least once all other columns are refitted.

    Gives the order of removal (units,) and, along it, the summed square error so far, of all layers together. `ridge`:
    of each Gram matrix, relative to its mean diagonal; its pull towards the dense weights counts in the error.
    """
    units = len(layers[0].columns)
    held = [(torch.linalg.inv(loaded(x.gram, ridge)), x.weight) for x in layers]
    left, order, cost = torch.arange(units), [], []
    for _ in range(units):
        each = [removal_costs(m, w, x.columns[left]) for (m, w), x in zip(held, layers, strict=True)]
        costs = torch.stack(each).sum(0)
        at = int(costs.argmin())
        order.append(int(left[at]))
        cost.append(float(costs[at]))
        held = [remove(m, w, x.columns[order[-1]]) for (m, w), x in zip(held, layers, strict=True)]
        left = torch.cat([left[:at], left[at + 1 :]])
    return torch.tensor(order), torch.tensor(cost, dtype=torch.float64).cumsum(0)
