"""First-order Taylor importance on gates. Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural
Network Pruning", CVPR 2019 (1906.10771), eq. 8 and sec. 3.1 ("Taylor-FO-BN").

Claim: the squared change of the loss when a unit's gate goes from 1 to 0, to first order (dL/dz)^2, averaged over
mini-batches, correlates above 0.93 with the true change. A gate stands on each tensor that layers read of a unit, all
gates of a unit are one, and the square of its gradient is divided by their number, as in the authors' code. Behind a
batch norm and a ReLU that is the gate that the paper sets between them. Departures: of a residual stream the authors
gate each sum on its way to all that follows, so that what passes n sums passes n gates; here what a layer reads
passes one, so that the gradient is the first-order change of the loss by the removal. Scores come from one pass in eval
mode, not from many steps of fine-tuning with a moving average.
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
    """s_k = mean over batches of (dL/dz_k)^2 / number of tensors that layers read of unit k."""

    needs = frozenset({"weights", "gradients"})
    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        found = evidence.of("gradients", group.name)
        return found["square"] / found["count"] / found["uses"]
