"""The algebra of optimal brain surgeon on the rows of one weight, all of which have one Hessian."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadModel
from .base import Laid
from .pattern import lowest

VALUES = 2**22  # of inverses, one for each row, that are held at a time


@dataclass(frozen=True, eq=False)
class Inverse:
    """M = H^-1, (d, d), and which inputs are always zero: weights on those cost nothing, and move no other."""

    matrix: Tensor
    dead: Tensor

    @classmethod
    def of(cls, gram: Tensor, count: int, damping: float) -> Inverse:
        """Of H = gram / count + damping * mean diagonal. Raises `BadModel` where there is none."""
        hessian = gram / max(count, 1)
        diagonal = hessian.diagonal()
        dead = diagonal == 0
        diagonal += damping * diagonal.mean()
        diagonal[dead] = 1
        return cls(inverse_of(hessian, damping), dead)

    @property
    def cost(self) -> Tensor:
        """(d,) 1 / (2 M_qq): what w_q^2 is multiplied with."""
        return torch.where(self.dead, 0, 1 / (2 * self.matrix.diagonal()))

    def to(self, device: torch.device) -> Inverse:
        """The same, there."""
        return Inverse(self.matrix.to(device), self.dead.to(device))


def inverse_of(hessian: Tensor, damping: float) -> Tensor:
    """Raises `BadModel` where there is none, naming the damping that it has."""
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if failed:
        raise BadModel(
            f"what a weight of {len(hessian)} inputs reads is linearly dependent, and with damping={damping} there is "
            "no inverse; give more damping, or more batches"
        )
    return torch.cholesky_inverse(factor)


def greedy(weight: Tensor, inverse: Inverse, held: Tensor, pattern: Laid) -> tuple[Tensor, Tensor]:
    """For each row, which weights go one after the other, and what each costs when it goes: (rows, steps) both.

    The inverse is brought up to date after each. Weights that are not `held` any more go first, at a cost of -1.
    """
    runs, (rows, inputs) = pattern.runs(), weight.shape
    steps = inputs if runs is None else inputs // runs[1] * runs[0]
    steps = min(steps, max(pattern.zeros, int((~held).sum(1).max())) if runs is None else steps)
    step = max(1, VALUES // inputs**2)
    parts = [_greedy(weight[a : a + step], inverse, ~held[a : a + step], steps, runs) for a in range(0, rows, step)]
    order, cost = zip(*parts, strict=True)
    return torch.cat(order), torch.cat(cost)


def _greedy(
    weight: Tensor, inverse: Inverse, first: Tensor, steps: int, runs: tuple[int, int] | None
) -> tuple[Tensor, Tensor]:
    w, rows = weight.clone(), len(weight)
    each = torch.arange(rows, device=w.device)
    m = inverse.matrix.expand(rows, -1, -1).clone()
    gone = torch.zeros_like(w, dtype=torch.bool)
    order, costs = [], []
    for _ in range(steps):
        cost = w.square() / (2 * m.diagonal(dim1=1, dim2=2))
        cost = cost.masked_fill(inverse.dead, 0).masked_fill(first, -1).masked_fill(gone, torch.inf)
        if runs is not None:
            full = gone.unflatten(1, (-1, runs[1])).sum(2) >= runs[0]
            cost = cost.masked_fill(full.repeat_interleave(runs[1], 1), torch.inf)
        q = cost.argmin(1)
        order.append(q)
        costs.append(cost[each, q])
        column = m[each, :, q]
        at = column[each, q]
        w -= (w[each, q] / at)[:, None] * column
        m -= column[:, :, None] * (column / at[:, None])[:, None, :]
        # Exactly, so that what is gone stays out of all that follows.
        m[each, q, :], m[each, :, q], m[each, q, q], w[each, q], gone[each, q] = 0, 0, 1, 0, True
    return torch.stack(order, 1), torch.stack(costs, 1)


def chosen(order: Tensor, cost: Tensor, inputs: int, pattern: Laid) -> Tensor:
    """(rows, inputs) what goes: so many of each row in its order, or the cheapest next step of any row, so often."""
    if pattern.pattern.of is not None:
        taken = torch.ones_like(cost, dtype=torch.bool)
    elif pattern.pattern.scope == "row":
        taken = (torch.arange(cost.shape[1], device=cost.device) < pattern.zeros).expand_as(cost)
    else:  # a step can be taken once those before it are: what it costs is the dearest of them
        taken = lowest(cost.cummax(1).values.flatten(), pattern.zeros).reshape(cost.shape)
    gone = torch.zeros(len(order), inputs, dtype=torch.bool, device=order.device)
    return gone.scatter(1, order, taken)


def refit(weight: Tensor, inverse: Inverse, gone: Tensor) -> Tensor:
    """(rows, d) with each row's set S out at once: w - M_:S (M_SS)^-1 w_S, the least-squares fit on the others."""
    made = weight.clone()
    for row, out in zip(made, gone, strict=True):
        if out.any():
            m = inverse.matrix
            row -= m[:, out] @ torch.linalg.solve(m[out][:, out], row[out])
            row[out] = 0
    return made


def take_out(weight: Tensor, inverse: Inverse, scores: Tensor, gone: Tensor) -> Tensor:
    """(rows, d) with one weight of each row after the other out, lowest score first, and M as it was at the start."""
    w, m = weight.clone(), inverse.matrix
    order = scores.masked_fill(~gone, torch.inf).argsort(dim=1, stable=True)
    each, count = torch.arange(len(w), device=w.device), gone.sum(1)
    for t in range(int(count.max())):
        q = order[:, t]
        share = torch.where(t < count, w[each, q] / m[q, q], 0)
        w -= share[:, None] * m[q]
    return w.masked_fill(gone, 0)
