"""Fisher pruning. Theis, Korshunova, Tejani, Huszár, "Faster gaze prediction with dense networks and Fisher pruning",
2018 (1801.05787); also in the code of Molchanov et al., CVPR 2019 (1906.10771), as the score by examples.

Claim: the mean over examples of the squared gradient of a gate is the diagonal of the empirical Fisher information, and
so, near a minimum of a log-likelihood, twice the change of the loss. "taylor" squares the mean gradient of a batch
instead, which is smaller where examples disagree. Departures: the factor 1/2 is left out; gates stand where layers read
a unit, after all activations, not right behind the layer or its batch norm; for ReLU that is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("fisher")
@dataclass(frozen=True)
class Fisher(Criterion):
    """s_k = mean over examples of (dL_n/dz_k)^2, L_n the loss of one example."""

    needs = frozenset({"weights", "example_gradients"})
    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        found = evidence.of("example_gradients", group.name)
        return found["square"] / found["count"]
