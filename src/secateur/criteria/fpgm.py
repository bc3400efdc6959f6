"""Filter pruning via geometric median. He, Liu, Wang, Hu, Yang, CVPR 2019 (1811.00250), eq. 4 to 6.

Claim: filters near the geometric median of their layer can be expressed by the others and go first, whatever their
norm. Departure: the published method zeroes filters softly after each epoch of training; this is its score alone. Of
several layers that write one group, each layer's scores are divided by their mean and averaged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, Reduction, criterion, reduce_rows


@criterion("fpgm")
@dataclass(frozen=True)
class FPGM(Criterion):
    """s_k = sum over j of |W[k] - W[j]|, the distance of a unit's weights to all others of its layer."""

    reduction: Reduction = "mean"

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        # Distances from differences, not from products: equal filters must be at distance 0 exactly.
        exact = "donot_use_mm_for_euclid_dist"
        return reduce_rows(group, evidence, lambda r: torch.cdist(r, r, compute_mode=exact).sum(1), self.reduction)
