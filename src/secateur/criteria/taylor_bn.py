"""First-order Taylor importance by batch norms. Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for
Neural Network Pruning", CVPR 2019 (1906.10771), sec. 3.1: a gate behind a batch norm, from its scale and shift.

Claim: a gate behind a batch norm has the gradient gamma * dL/dgamma + beta * dL/dbeta, so that none need be put in.
Where one batch norm writes a group this is "taylor"; where several do, each norm's gate is squared on its own and the
squares are added, while "taylor" has one gate for all. Departure: one pass in eval mode, not steps of fine-tuning.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, Reduction, combined, criterion


@criterion("taylor-bn")
@dataclass(frozen=True)
class TaylorBN(Criterion):
    """s_k = sum over batch norms of the mean over batches of (gamma_k dL/dgamma_k + beta_k dL/dbeta_k)^2."""

    needs = frozenset({"weights", "norm_gradients"})
    comparable = True
    reduction: Reduction = "sum"

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` where a layer that writes the group has no batch norm behind it."""
        found = evidence.of("norm_gradients", group.name)
        projections = {s.writer.norm.weight: s.projection for s in group.sources if s.writer.norm}.values()
        each = zip(projections, found["square"] / found["count"], strict=True)
        return combined([row for _, row in sorted(each, key=lambda pair: not pair[0])], self.reduction)
