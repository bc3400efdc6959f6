"""Correlated filters. Suau, Zappella, Apostoloff, "Filter Distillation for Network Compression" ("Principal Filter
Analysis"), WACV 2020 (1807.10585).

Claim: a filter whose responses correlate with those of others in its layer adds least; the one that correlates most in
sum goes first, again and again. How many go is what the method of the same name says. Departures: a response is what
the first layer that reads a unit sees, pooled by its maximum; units whose response never varies correlate with nothing
and go before all others; of equal sums, the unit that varies least goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..evidence.base import Evidence
from ..evidence.covariance import covariance
from ..groups.group import Group
from .base import Criterion, criterion

TIE = 1e-9  # of sums of correlations: the last two units have one sum between them


@criterion("pfa")
@dataclass(frozen=True)
class PFA(Criterion):
    """s_k = when unit k is dropped, as a fraction, if the unit with the largest sum over others of |rho| always is."""

    needs = frozenset({"covariance"})

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,), from 0 (units that never vary) to 1 (the last one left). Raises `NeedsData` for one example."""
        found = covariance(group, evidence)
        variance = found.diagonal().clamp(min=0)
        varies = variance > 0
        order = removal_order(found[varies][:, varies])
        constant, scores = int((~varies).sum()), torch.zeros(group.size, dtype=torch.float64)
        scores[varies.nonzero().flatten()[order]] = torch.arange(constant + 1, group.size + 1, dtype=torch.float64)
        return scores / group.size


def removal_order(covariance: Tensor) -> Tensor:
    """(units,) the units, first dropped first, of a (units, units) covariance with no zeros on its diagonal."""
    deviation = covariance.diagonal().sqrt()
    correlated = (covariance / torch.outer(deviation, deviation)).abs().fill_diagonal_(0)
    sums = correlated.sum(1)
    left = torch.ones(len(sums), dtype=torch.bool)
    order: list[int] = []
    while len(order) < len(sums):
        level = sums[left].max()
        tied = (left & (sums >= level - TIE)).nonzero().flatten()
        dropped = int(tied[deviation[tied].argmin()])
        order.append(dropped)
        left[dropped] = False
        sums -= correlated[dropped]
    return torch.tensor(order, dtype=torch.long)
