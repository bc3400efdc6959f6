"""Filter pruning via geometric median. He, Liu, Wang, Hu, Yang, CVPR 2019 (1811.00250), eq. 4 to 6.

Claim: filters near the geometric median of their layer can be expressed by the others and go first, whatever their
norm. Departure: the published method zeroes filters softly after each epoch of training; this is its score alone. Of
several layers that write one group, each layer's scores are divided by their mean and averaged. The authors' code has
a stage of norms in front, which their experiments leave off: `rate_norm`.

Squared distances are |a|^2 + |b|^2 - 2 ab in the weight's own precision (float32 at least), after an offset that
changes no distance is taken away. Where that cancels they are found from differences in float64, so that scores are as
exact as the weights, and equal filters at distance 0 exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..errors import BadOption
from ..evidence.base import Evidence
from ..groups.group import Group
from .base import CHUNK, Criterion, Reduction, combined, criterion, part, written

ROWS = 128  # filters among which each distance may as well be found twice
CLOSE = 1e-3  # of |a|^2 + |b|^2: a smaller squared distance has lost three digits


@criterion("fpgm")
@dataclass(frozen=True)
class FPGM(Criterion):
    """s_k = sum over j of |W[k] - W[j]|, the distance of a unit's weights to all others of its layer.

    `rate_norm`: this fraction of each layer is kept by its L2 norm first, and distances are taken among those alone;
    the rest, int(units * (1 - rate_norm)), go before them, the smallest norm first.
    """

    reduction: Reduction = "mean"
    rate_norm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rate_norm <= 1:
            raise BadOption(f"rate_norm={self.rate_norm!r}: give the fraction that stays, 0 < rate_norm <= 1")

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        each = []
        for weight, source in written(group, evidence):
            dtype = torch.promote_types(weight.dtype, torch.float32)
            each.append(self._of(part(weight, source, slice(None), dtype)))
        return combined(each, self.reduction)

    def _of(self, x: Tensor) -> Tensor:
        """(rows, d), which is overwritten -> (rows,)."""
        small = int(len(x) * (1 - Fraction(str(self.rate_norm))))  # as written: 10 * (1 - 0.9) is 0.999... in floats
        if not small:
            return distance_sums(x)
        norm = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
        rising = norm.argsort(stable=True)
        rest = distance_sums(x[rising[small:]])
        if not rest.any():  # all alike
            rest += 1
        below = norm[rising[:small]] / norm.max().where(norm.max() > 0, 1.0) * rest.min() / 2
        return torch.empty_like(norm).index_copy_(0, rising, torch.cat([below, rest]))


def distance_sums(x: Tensor) -> Tensor:
    """The sum of the distances of each row to all others: (rows, d), which is overwritten -> (rows,) float64."""
    lowest, highest = torch.aminmax(x)
    scale = 2.0 ** math.frexp(max(-float(lowest), float(highest)))[1]  # a power of two: nothing is rounded
    x.sub_(x.mean(0)).div_(scale)
    square = torch.linalg.vector_norm(x, dim=1).square_()
    total = torch.zeros(len(x), dtype=torch.float64)
    for a, b in _tiles(0, len(x)):
        both = square[a, None] + square[b]
        found = torch.addmm(both, x[a], x[b].T, alpha=-2)
        if a == b:
            found.fill_diagonal_(torch.inf)
        if found.min() <= CLOSE * (square[a].max() + square[b].max()):
            row, column = (found <= CLOSE * both).nonzero(as_tuple=True)
            found.sqrt_()[row, column] = _distances(x, row + a.start, column + b.start).to(x.dtype)
        else:
            found.sqrt_()
        if a == b:
            found.fill_diagonal_(0)
        else:
            total[b] += found.sum(0)
        total[a] += found.sum(1)
    return total * scale


def _tiles(start: int, stop: int) -> Iterator[tuple[slice, slice]]:
    """Ranges of rows and of columns that cover each pair once, and pairs in small squares of the diagonal twice."""
    if stop - start <= ROWS:
        yield slice(start, stop), slice(start, stop)
        return
    middle = (start + stop) // 2
    for a in range(start, middle, 4 * ROWS):
        for b in range(middle, stop, 4 * ROWS):
            yield slice(a, min(a + 4 * ROWS, middle)), slice(b, min(b + 4 * ROWS, stop))
    yield from _tiles(start, middle)
    yield from _tiles(middle, stop)


def _distances(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Of pairs of rows, from their differences: (pairs,) float64."""
    step = max(1, CHUNK // x.shape[1])
    parts = [(x[i].double() - x[j].double()).norm(dim=1) for i, j in zip(a.split(step), b.split(step), strict=True)]
    return torch.cat(parts) if parts else x.new_zeros(0, dtype=torch.float64)
