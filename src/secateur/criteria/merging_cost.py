"""What it costs to merge a unit. Srinivas & Babu, "Data-free parameter pruning for Deep Neural Networks", BMVC 2015
(1507.06149).

Claim: a unit that computes nearly what another does can go, whatever its own weights are; no data is needed.
Departures: those of `merging.py`; and as a criterion it only ranks: units that go take their work with them. The method
"srinivas2015" merges, one unit at a time, each time by the saliencies that are left. Two units are compared where all
that stands between their writers and readers (a depthwise kernel, a scale) is equal; a unit with no such other costs
what it does that none takes over, w_i = 0. Whether anything but weights sums over units, as a layer norm does, so that
they could not be merged, is not asked here: that method asks it, of the whole network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..evidence.base import Evidence
from ..groups.folded import between
from ..groups.group import Group
from .base import Criterion, criterion
from .merging import saliency_of


@criterion("merging-cost")
@dataclass(frozen=True)
class MergingCost(Criterion):
    """s_j = min over i of <a_j^2> |w_i - w_j|^2: what it costs that unit j goes and its nearest takes over."""

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,)."""
        if group.size == 1:
            return torch.zeros(1, dtype=torch.float64)
        found = saliency_of(group, evidence, kin=_kin(group, evidence))
        least = found.matrix.amin(0)
        return torch.where(least.isinf(), found.alone(), least)


def _kin(group: Group, evidence: Evidence) -> Tensor | None:
    """(units,) the same number for units that what stands between treats alike; None where nothing does."""
    held = between(group, evidence.model)
    if not held:
        return None
    rows = torch.cat([rows.cpu().double() for rows in held.values()], 1)
    return torch.unique(rows, dim=0, return_inverse=True)[1]
