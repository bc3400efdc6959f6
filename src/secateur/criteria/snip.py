"""SNIP, for units. Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019
(1810.02340), sec. 4.1, on gates of units in place of single weights.

Claim: before training, one batch tells which connections matter: those whose gate c = 1 the loss is most sensitive to.
One gate stands on all that layers read of a unit: in front of a norm it would have no effect. Departures: the paper's
division by the sum over the network is left out, a constant that changes no ranking; batch norms are in eval mode. Of
several batches the gradients are averaged over their examples before the absolute value, as of one large batch, for a
loss that is the mean over examples.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("snip")
@dataclass(frozen=True)
class SNIP(Criterion):
    """s_k = |mean over examples of dL/dc_k|."""

    needs = frozenset({"weights", "gradients"})
    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        found = evidence.of("gradients", group.name)
        return (found["total"] / found["examples"]).abs()
