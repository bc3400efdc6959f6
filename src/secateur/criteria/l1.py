"""L1 filter norm. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017 (1608.08710), sec. 3.1.

Claim: filters with small absolute weight sums give weak activations and can go. Departure: where several layers write a
group (a residual stream), the paper ranks by the filters of the projection shortcut alone (sec. 3.3), which is
`reduction="first"` where the stream has a 1x1 shortcut; without one that takes the first layer that writes, of which
the paper says nothing. The default is the mean over all writing layers, each divided by its own mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadOption
from ..evidence.base import Evidence
from ..evidence.units import per_unit
from ..groups.group import Group
from .base import Criterion, Reduction, combined, criterion, per_writer
from .weights import matrices


@criterion("l1")
@dataclass(frozen=True)
class L1(Criterion):
    """s_k = sum |W[k]| over the weights that write unit k; with `consumers`, of those that read it as well.

    Each layer that reads the group is then one more to reduce over: "sum" adds all of a unit's slices.
    """

    reduction: Reduction = "mean"
    consumers: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.consumers and self.reduction == "first":
            raise BadOption("consumers=True and reduction='first', which takes one writing layer alone: leave one out")

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` where a weight is computed from several."""
        each = list(per_writer(group, evidence, lambda rows: rows.abs().sum(1), rowwise=True))
        return combined([*each, *_read(group, evidence)] if self.consumers else each, self.reduction)


def _read(group: Group, evidence: Evidence) -> Iterator[Tensor]:
    """(units,) of each weight that reads the group: sum |W| over the inputs that each unit holds."""
    for member, _, weight in matrices(group, evidence, "in"):
        others = [d for d in range(weight.dim()) if d != member.axis]
        yield per_unit(torch.linalg.vector_norm(weight, 1, others, dtype=torch.float64).cpu(), 0, member.index)
