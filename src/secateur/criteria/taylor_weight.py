"""First-order Taylor importance of weights. Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural
Network Pruning", CVPR 2019 (1906.10771), eq. 8, each weight on its own.

Claim: the squared change of the loss when a weight goes to 0 is, to first order, (w * dL/dw)^2; a unit's is the sum
over its weights. The square of the sum would not do: a batch norm in training mode takes the scale of a filter away,
and w * dL/dw then sums to 0 over the filter. Departures: one pass in eval mode, not many steps of fine-tuning with a
moving average; of several layers that write a group, "sum" is the default, as the squares stand on one scale.

The other forms are those of Ma, Fang, Wang, "LLM-Pruner", NeurIPS 2023 (2305.11627), sec. 3.2, with g the mean gradient
and F the mean of squared gradients: "first" sums |w g| over the weights of a unit, "mix" |w g - w^2 F / 2|, and
"vectorize" is |sum of w g|, to which the cancelling above applies. Its w^2 F is "second", the default. Departures: F is
by batch, and that of single examples with batches of one; the weights that write a unit count, not those that read it.
These forms keep one number for each weight, "mix" two, where "second" keeps sums by index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence
from ..evidence.units import per_unit
from ..evidence.weight_effects import mean_effect
from ..evidence.weight_gradients import WeightGradients, WeightSquares, mean_square
from ..groups.group import Group, Source
from .base import Criterion, Reduction, combined, criterion, parts, written

Form = Literal["second", "first", "mix", "vectorize"]


@criterion("taylor-weight")
@dataclass(frozen=True)
class TaylorWeight(Criterion):
    """s_k = sum over the weights that write unit k of the mean over batches of (w * dL/dw)^2.

    `form`: "first", "mix" or "vectorize" for another function of w and its gradients, see above.
    """

    needs = frozenset({"weights", "weight_effects"})
    comparable = True
    reduction: Reduction = "sum"
    form: Form = "second"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form != "second":
            kinds = {WeightGradients.name} | ({WeightSquares.name} if self.form == "mix" else set())
            object.__setattr__(self, "needs", frozenset({"weights", *kinds}))

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` where a weight that writes the group is computed from others."""

        def each(source: Source) -> Tensor:
            if source.writer.computed:
                raise BadModel(
                    f"group {group.name!r} is written by {source.writer.path!r}, whose weight is computed from others; "
                    f"use a criterion that looks at gates, such as 'fisher', or frozen={group.name!r}"
                )
            if self.form != "second":
                return self._products(evidence, source)
            effect = mean_effect(evidence, str(source.writer.weight), source.writer.weight_axis)
            return per_unit(effect, 0, source.rows)

        return combined([each(s) for _, s in written(group, evidence)], self.reduction)

    def _products(self, evidence: Evidence, source: Source) -> Tensor:
        """(units,) of one layer, from the mean gradient of each weight."""
        name = str(source.writer.weight)
        held = [evidence.weight(name), _mean_gradient(evidence, name)]
        if self.form == "mix":
            held.append(mean_square(evidence, name))
        found = []
        for w, g, *fisher in parts(held, source):
            products = w * g
            for square in fisher:
                products -= w**2 * square / 2
            found.append(products.sum(1).abs() if self.form == "vectorize" else products.abs().sum(1))
        return torch.cat(found)


def _mean_gradient(evidence: Evidence, name: str) -> Tensor:
    """Of the parameter's shape; 0 where the loss does not depend on it."""
    if name not in evidence.values.get(WeightGradients.name, {name: {}}):
        return torch.zeros_like(evidence.weight(name))
    found = evidence.of(WeightGradients.name, name)
    return found["total"] / found["count"]
