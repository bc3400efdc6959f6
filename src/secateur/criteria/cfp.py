"""Correlation between filters. Singh, Verma, Rai, Namboodiri, "Leveraging Filter Correlations for Deep Model
Compression", WACV 2020 (1811.10559).

Claim: of two filters that are strongly correlated one is enough; take the most correlated pairs and drop one filter of
each. Here, exactly: |r_ij| is the Pearson correlation of the weights of units i and j, without sign. Pairs are gone
through from the most correlated down; of a pair of which both are still there, the one with the smaller L2 norm goes
(of equal norms, the later one), and its score is 1 - |r_ij|. The unit that stays to the end scores 1. So any number of
lowest scores is what that many steps drop. A filter of zeros counts as fully correlated with every other, for it adds
nothing to them; one of equal weights, whose correlation is not defined, as not correlated.
Departures: the paper first trains with a penalty that makes the chosen pairs more correlated still; this is its choice
alone. Of several layers that write one group, |r| is averaged, and norms are reduced as for `l2`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, combined, criterion, rows


@criterion("cfp")
@dataclass(frozen=True)
class CFP(Criterion):
    """s_k = 1 - the correlation with a larger unit that makes unit k go, going through pairs from the most correlated.

    1 where no larger unit is left to correlate with.
    """

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        correlation, norms, count = torch.zeros(group.size, group.size, dtype=torch.float64), [], 0
        for layer in rows(group, evidence):
            correlation += correlations(layer)
            norms.append(layer.norm(dim=1))
            count += 1
        return 1 - dropped_at(correlation / count, combined(norms, "mean"))


def correlations(layer: Tensor) -> Tensor:
    """|r| of each pair of rows: (rows, d) -> (rows, rows), in [0, 1]."""
    centred = layer - layer.mean(1, keepdim=True)
    size = centred.norm(dim=1, keepdim=True)
    # Of equal weights rounding leaves a remainder, whose correlations would be noise.
    flat = size <= 1e-12 * layer.norm(dim=1, keepdim=True)
    unit = (centred / size.where(size > 0, 1.0)).masked_fill_(flat, 0.0)
    found = (unit @ unit.T).abs_().clamp_(max=1.0)
    empty = (layer == 0).all(1)
    found[empty], found[:, empty] = 1.0, 1.0
    return found


def dropped_at(correlation: Tensor, norm: Tensor) -> Tensor:
    """The correlation at which each unit goes, 0 if it stays: (units, units), (units,) -> (units,)."""
    order = norm.argsort(descending=True, stable=True)
    correlation, found = correlation[order][:, order], torch.zeros_like(norm)
    # Only larger units make a unit go, and only while they are there: until the correlation at which they went.
    for k in range(1, len(order)):
        there = correlation[k, :k] > found[:k]
        found[k] = correlation[k, :k].where(there, 0.0).max()
    return torch.empty_like(found).index_copy_(0, order, found)
