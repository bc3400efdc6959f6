"""GraSP, for units. Wang, Zhang, Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR
2020 (2002.07376): -theta * (H g), the largest removed.

Claim: before training, what must be preserved is the flow of gradients |g|^2: to first order, removing weights changes
it by twice the sum of their -w * (H g)_w, so those with the largest go. A unit goes with all weights that write and
read it, and their signed scores are added; here the sign is turned, as the highest stay. Departures: H g is added
up batch by batch, which is the paper's for one batch; the temperature of 200 is the loss's own affair, `loss=lambda y,
t: cross_entropy(y / 200, t)`. Biases and norms count as fixed, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence
from ..evidence.units import over_members
from ..groups.group import Group, Member
from .base import Criterion, criterion


@criterion("grasp")
@dataclass(frozen=True)
class GraSP(Criterion):
    """s_k = sum over the weights that write or read unit k of w * (H g)_w: high where |g|^2 would fall most without."""

    needs = frozenset({"weights", "curvature"})
    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,), of either sign. Raises `BadModel` where the loss cannot be differentiated twice."""
        shapes = {n: p.shape for n, p in evidence.model.named_parameters() if p.is_floating_point()}
        held: dict[str, list[Member]] = {}
        for member in group.members:
            if len(shapes.get(member.tensor, ())) > 1:
                held.setdefault(member.tensor, []).append(member)
        if not held:
            raise BadModel(
                f"no weight of two axes holds the units of group {group.name!r}; use 'snip', or frozen={group.name!r}"
            )
        total = torch.zeros(group.size, dtype=torch.float64)
        for name, members in held.items():
            found = evidence.of("curvature", name)
            total += over_members(members, evidence.weight(name) * found["flow"]) / found["count"]
        return total
