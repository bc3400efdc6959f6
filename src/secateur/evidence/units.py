"""Sums of what a parameter's elements carry, over all elements that each unit holds."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import torch
from torch import Tensor

from ..groups.group import Member, Units


def per_unit(values: Tensor, axis: int, index: Units) -> Tensor:
    """(units,) float64: the sum of `values` over what each unit holds along an axis; index: (units, m)."""
    each = values.movedim(axis, 0).reshape(values.shape[axis], -1).sum(1, dtype=torch.float64).cpu()
    return each[torch.from_numpy(index)].sum(1)


def over_members(members: Iterable[Member], values: Tensor) -> Tensor:
    """(units,) float64: the sum over what the members, all of one tensor, hold of each unit; each element counts once.

    A weight that writes what it reads holds a unit along two axes, and some elements along both.
    """
    held = list(members)
    total = torch.stack([per_unit(values, m.axis, m.index) for m in held]).sum(0)
    for a, b in combinations(held, 2):
        both = values.movedim((a.axis, b.axis), (0, 1))
        rows, columns = torch.from_numpy(a.index)[:, :, None], torch.from_numpy(b.index)[:, None, :]
        total -= both[rows, columns].flatten(1).sum(1, dtype=torch.float64).cpu()
    return total
