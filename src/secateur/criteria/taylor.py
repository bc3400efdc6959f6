"""First-order Taylor importance on gates. Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural
Network Pruning", CVPR 2019 (1906.10771), eq. 8 and sec. 3.1 ("Taylor-FO-BN").

Claim: the squared change of the loss when a unit's gate goes from 1 to 0, to first order (dL/dz)^2, averaged over
mini-batches, correlates above 0.93 with the true change. A gate stands after the batch norm; layers that write one
group share it, and the squared sum is divided by their number, as in the authors' code. Departures: scores come from
one pass in eval mode, not from many steps of fine-tuning with a moving average.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("taylor")
@dataclass(frozen=True)
class Taylor(Criterion):
    """s_k = mean over batches of (sum over writing layers of dL/dz_k)^2 / number of writing layers."""

    needs = frozenset({"weights", "gradients"})
    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        found = evidence.of("gradients", group.name)
        return found["square"] / found["count"] / len({s.writer.weight for s in group.sources})
