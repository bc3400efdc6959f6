"""What it costs to merge a unit. Srinivas & Babu, "Data-free parameter pruning for Deep Neural Networks", BMVC 2015
(1507.06149).

Claim: a unit that computes nearly what another does can go, whatever its own weights are; no data is needed.
Departures: those of `merging.py`; and as a criterion it only ranks: units that go take their work with them. The method
"srinivas2015" merges, one unit at a time, each time by the saliencies that are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion
from .merging import saliency_of


@criterion("merging-cost")
@dataclass(frozen=True)
class MergingCost(Criterion):
    """s_j = min over i of <a_j^2> |w_i - w_j|^2: what it costs that unit j goes and its nearest takes over."""

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        found = saliency_of(group, evidence).matrix
        return found.amin(0) if group.size > 1 else torch.zeros(1, dtype=torch.float64)
