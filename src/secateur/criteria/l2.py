"""L2 filter norm. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017 (1608.08710), sec. 3.1, Euclidean."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, Reduction, criterion, reduce_rows


@criterion("l2")
@dataclass(frozen=True)
class L2(Criterion):
    """s_k = sqrt(sum W[k]^2) over the weights that write unit k."""

    reduction: Reduction = "mean"

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        return reduce_rows(group, evidence, lambda rows: rows.norm(dim=1), self.reduction, rowwise=True)
