"""Second-order Taylor importance on gates. Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural
Network Pruning", CVPR 2019 (1906.10771), eq. 7.

Claim: the squared change of the loss when a gate goes from 1 to 0 is, to second order, (g_k - (H z)_k / 2)^2 with gates
z = 1. As in the paper the row of the Hessian H is multiplied with all gates, which one Hessian-vector product gives for
the whole model: what two gates do together is shared equally between them, so that before squaring the values of all
units add up to the change when all go at once. A unit that goes alone changes the loss by g_k - H_kk / 2: the same
where gates do nothing together. Departures: where gates stand, and what the square is divided by, as in "taylor"; one
pass in eval mode.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("taylor-so")
@dataclass(frozen=True)
class TaylorSO(Criterion):
    """s_k = mean over batches of (dL/dz_k - (H 1)_k / 2)^2 / number of tensors that layers read."""

    needs = frozenset({"weights", "curvature"})
    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` where the loss cannot be differentiated twice."""
        found = evidence.of("curvature", group.name)
        return found["square"] / found["count"] / found["uses"]
