"""Optimal brain damage, for units. LeCun, Denker, Solla, "Optimal Brain Damage", NIPS 1989: saliency h_kk u_k^2 / 2 of
each parameter, by the diagonal of the Hessian alone.

Claim: near a minimum the loss grows by half the curvature times the square of what is removed. A unit's saliency is the
sum over all parameters that make it: weights, biases, scales and shifts of what writes it. Departures: the paper has no
units; the diagonal of its Hessian is replaced by that of the empirical Fisher information, the mean of squared
gradients. These are taken by batch, as gradients of single examples would cost a pass each: with batches of one example
it is the Fisher information itself, with larger ones less, by about their size, for all units alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence
from ..evidence.units import per_unit
from ..evidence.weight_effects import mean_effect
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("obd")
@dataclass(frozen=True)
class OBD(Criterion):
    """s_k = sum over the parameters that make unit k of F_ww w^2 / 2, F_ww = mean over batches of (dL/dw)^2."""

    needs = frozenset({"weights", "weight_effects"})
    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` where no parameter makes the group."""
        own = {n for n, p in evidence.model.named_parameters() if p.is_floating_point()}
        making = [m for m in group.members if m.tensor in own and m.role != "in"]
        if not making:
            raise BadModel(
                f"no parameter makes the units of group {group.name!r}; use a criterion that looks at gates, such as "
                f"'fisher', or frozen={group.name!r}"
            )
        total = torch.zeros(group.size, dtype=torch.float64)
        for member in making:
            total += per_unit(mean_effect(evidence, member.tensor, member.axis), 0, member.index) / 2
        return total
