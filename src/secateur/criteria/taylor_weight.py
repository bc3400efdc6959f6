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
from ..evidence.weight_gradients import mean_square
from ..groups.group import Group, Source
from .base import Criterion, Reduction, combined, criterion, part, written


@criterion("taylor-weight")
@dataclass(frozen=True)
class TaylorWeight(Criterion):
    """s_k = sum over the weights that write unit k of the mean over batches of (w * dL/dw)^2."""

    needs = frozenset({"weights", "weight_gradients"})
    comparable = True
    reduction: Reduction = "sum"

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` where a weight that writes the group is computed from others."""

        def each(weight: Tensor, source: Source) -> Tensor:
            if source.writer.computed:
                raise BadModel(
                    f"group {group.name!r} is written by {source.writer.path!r}, whose weight is computed from others; "
                    f"use a criterion that looks at gates, such as 'fisher', or frozen={group.name!r}"
                )
            square = mean_square(evidence, str(source.writer.weight))
            w, g2 = (part(t, source, slice(None)) for t in (weight, square))
            return (w.square() * g2).sum(1)

        return combined([each(w, s) for w, s in written(group, evidence)], self.reduction)
