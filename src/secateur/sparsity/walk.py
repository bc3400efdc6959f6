"""SparseGPT's walk over the columns of a weight, and how many weights each block of columns has to give."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .base import Laid
from .pattern import lowest, shares
from .surgeon import inverse_of

Choose = Callable[[int, Tensor, Tensor], Tensor]  # (first column, columns as they are now, U_ii) -> what of them goes


def factor(gram: Tensor, count: int, damping: float) -> Tensor:
    """Upper triangular U with U^T U = H^-1, (d, d), of H = 2/n gram + damping * mean diagonal.

    Inputs that are always zero have infinity on the diagonal: a weight on them costs nothing, and moves no other.
    Raises `BadModel` where H has no inverse.
    """
    hessian = gram * (2 / max(count, 1))
    diagonal = hessian.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1
    diagonal += damping * diagonal.mean()
    upper: Tensor = torch.linalg.cholesky(inverse_of(hessian, damping), upper=True)
    upper.diagonal()[dead] = torch.inf
    return upper


def quotas(pattern: Laid, gone: Tensor, groups: int) -> Tensor:
    """How many weights still have to go: of each row, (groups, rows of a group), or of each group, (groups,)."""
    if pattern.pattern.scope == "row":
        return (pattern.zeros - gone.sum(1)).clamp(min=0).reshape(groups, -1)
    free = (~gone).reshape(groups, -1).sum(1)
    return shares((pattern.zeros - gone.sum()).clamp(min=0), free)


def chooser(held: Tensor, quota: Tensor, block: int) -> Choose:
    """The lowest errors of each block, of all its rows together or (quota of each row) row by row; as many as are due.

    Each block has its share of what must go, so that the sum is exact.
    """
    free = torch.stack([(~part).sum(1) for part in held.split(block, 1)], 1)  # (rows, blocks)
    due = shares(quota, free if quota.dim() else free.sum(0))

    def choose(first: int, columns: Tensor, diagonal: Tensor) -> Tensor:
        number, before = first // block, held[:, first : first + columns.shape[1]]
        errors = (columns / diagonal).square().masked_fill(before, -torch.inf)
        if due.dim() == 2:
            return lowest(errors, due[:, number, None] + before.sum(1, keepdim=True))
        return lowest(errors.flatten(), int(due[number] + before.sum())).reshape(errors.shape)

    return choose


def run_chooser(held: Tensor, zeros: int) -> Choose:
    """So many of each run of inputs, with what is zero already."""

    def choose(first: int, columns: Tensor, diagonal: Tensor) -> Tensor:
        before = held[:, first : first + columns.shape[1]]
        return lowest((columns / diagonal).square().masked_fill(before, -torch.inf), zeros) | before

    return choose


def walk(weight: Tensor, upper: Tensor, choose: Choose, block: int, every: int) -> tuple[Tensor, Tensor, Tensor]:
    """(what is gone, weights after it, errors e), all (rows, d): the sum of e^2 / 2 is what H says of the change.

    `choose` is asked once for each `every` columns, of which a block holds whole numbers. Blocks are for speed alone:
    columns behind a block are made up to date once it is done.
    """
    weight, diagonal = weight.clone(), upper.diagonal()
    gone, errors = torch.zeros_like(weight, dtype=torch.bool), torch.zeros_like(weight)
    for start in range(0, weight.shape[1], block):
        stop = min(start + block, weight.shape[1])
        for j in range(start, stop):
            if j % every == 0:
                some = slice(j, min(j + every, stop))
                gone[:, some] = choose(j, weight[:, some], diagonal[some])
            errors[:, j] = torch.where(gone[:, j], weight[:, j] / diagonal[j], 0)
            weight[:, j + 1 : stop] -= errors[:, j, None] * upper[j, j + 1 : stop]
            weight[:, j].masked_fill_(gone[:, j], 0)
        weight[:, stop:] -= errors[:, start:stop] @ upper[start:stop, stop:]
    return gone, weight, errors
