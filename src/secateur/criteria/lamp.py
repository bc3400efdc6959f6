"""Layer-adaptive magnitude, by units. Lee, Park, Mo, Ahn, Shin, "Layer-adaptive Sparsity for the Magnitude-based
Pruning", ICLR 2021 (2010.07611), with units in place of weights.

Claim: a squared weight divided by the squares in its layer that are not smaller, itself among them, puts all layers on
one scale: it is the share of what is left that goes with it, and one threshold for all layers then chooses each
layer's share without a hyperparameter. Departures: the paper scores single weights, we units by their squared L2 norm;
the paper orders equal weights by their place, here equal units share one score, so that no order of units matters. Of
several layers that write one group, squared norms are reduced as for `l2`. Units of zeros score 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, Reduction, criterion, reduce_rows


@criterion("lamp")
@dataclass(frozen=True)
class LAMP(Criterion):
    """s_k = n_k / (sum of n_j over the units j of the group with n_j >= n_k), n the squared norm; in [0, 1]."""

    reduction: Reduction = "mean"

    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        square = reduce_rows(group, evidence, lambda rows: rows.square().sum(1), self.reduction, rowwise=True)
        rising = square.sort().values
        not_smaller = rising.flip(0).cumsum(0).flip(0)[torch.searchsorted(rising, square)]
        return square / not_smaller.where(not_smaller > 0, 1.0)
