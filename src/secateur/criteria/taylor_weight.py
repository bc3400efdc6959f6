"""First-order Taylor importance of weights. Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural
Network Pruning", CVPR 2019 (1906.10771), eq. 8, each weight on its own.

Claim: the squared change of the loss when a weight goes to 0 is, to first order, (w * dL/dw)^2; a unit's is the sum
over its weights. The square of the sum would not do: a batch norm in training mode takes the scale of a filter away,
and w * dL/dw then sums to 0 over the filter. Departures: one pass in eval mode, not many steps of fine-tuning with a
moving average; of several layers that write a group, "sum" is the default, as the squares stand on one scale.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence
from ..evidence.units import per_unit
from ..evidence.weight_effects import mean_effect
from ..groups.group import Group, Source
from .base import Criterion, Reduction, combined, criterion, written


@criterion("taylor-weight")
@dataclass(frozen=True)
class TaylorWeight(Criterion):
    """s_k = sum over the weights that write unit k of the mean over batches of (w * dL/dw)^2."""

    needs = frozenset({"weights", "weight_effects"})
    comparable = True
    reduction: Reduction = "sum"

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` where a weight that writes the group is computed from others."""

        def each(source: Source) -> Tensor:
            if source.writer.computed:
                raise BadModel(
                    f"group {group.name!r} is written by {source.writer.path!r}, whose weight is computed from others; "
                    f"use a criterion that looks at gates, such as 'fisher', or frozen={group.name!r}"
                )
            effect = mean_effect(evidence, str(source.writer.weight), source.writer.weight_axis)
            return per_unit(effect, 0, source.rows)

        return combined([each(s) for _, s in written(group, evidence)], self.reduction)
