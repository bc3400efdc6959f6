"""SynFlow, for units. Tanaka, Kunin, Yamins, Ganguli, "Pruning neural networks without any data by iteratively
conserving synaptic flow", NeurIPS 2020 (2006.05467).

Claim: theta * dR/dtheta, R = 1^T (product of |theta|) 1, is conserved: what comes into a unit goes out of it and each
layer holds R in all, so that a layer's last unit has the highest score there can be, and cutting step by step never
empties a layer. A unit's score is what passes through it, as a part of R; in and out are the same, so that there is no
reduction to choose. The paper cuts in 100 rounds and scores anew in each: prune what was pruned, by a smaller budget
each time. Departures: norms are passed by, where the authors' code keeps batch norms, with absolute statistics. Groups
in which the flow stops or turns negative (saturating gates, queries and keys, norms by hand) are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("synflow")
@dataclass(frozen=True)
class SynFlow(Criterion):
    """s_k = the part of R that passes through unit k."""

    needs = frozenset({"weights", "synflow"})
    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,), from 0; 1 in all in a chain of layers. Raises `BadModel` where flow is not conserved."""
        return evidence.of("synflow", group.name)["flow"].clamp(min=0.0)
