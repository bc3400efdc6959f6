"""L1 filter norm. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017 (1608.08710), sec. 3.1.

Claim: filters with small absolute weight sums give weak activations and can go. Departure: where several layers write a
group (a residual stream), the paper ranks by the projection shortcut alone, which many networks do not have; the
default here is the mean over all writing layers, each divided by its own mean. `reduction="first"` is closest
to the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, Reduction, criterion, reduce_rows


@criterion("l1")
@dataclass(frozen=True)
class L1(Criterion):
    """s_k = sum |W[k]| over the weights that write unit k."""

    reduction: Reduction = "mean"

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        return reduce_rows(group, evidence, lambda rows: rows.abs().sum(1), self.reduction, rowwise=True)
