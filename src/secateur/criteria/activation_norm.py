"""Norms of activations. Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation"
("Minitron"), NeurIPS 2024 (2407.14679); with weights: Sun, Liu, Bair, Kolter, "A Simple and Effective Pruning
Approach for Large Language Models" ("Wanda"), ICLR 2024 (2306.11695).

Claim: the mean of |x| over positions, then the L2 norm over examples (Minitron's default), ranks neurons, heads and the
indices of the residual stream, without gradients. The norm of a head is over its dimensions as well, and a stream's
norms at the layers that read it are summed, once for each tensor. Departures: Minitron measures a stream where norms
write, which is where layers read it. Wanda scores single weights; `weights=True` sums its |w| * ||x||_2 over
the weights that read a unit, and takes ||x|| of a convolution's input as a whole for each place in the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import BadModel
from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("activation-norm")
@dataclass(frozen=True)
class ActivationNorm(Criterion):
    """s_k = sum over what is read of sqrt(sum over examples of (mean over positions of |x_k|)^2)."""

    weights: bool = False

    needs = frozenset({"activations"})

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,). Raises `BadModel` with `weights` where no layer that reads the group has any of its own."""
        found = evidence.of("activations", group.name)
        if not self.weights:
            if not found["told"].all():
                raise BadModel(
                    f"examples of a batch cannot be told apart where group {group.name!r} is read; use "
                    f'"mean-activation", batches of one example, or frozen={group.name!r}'
                )
            return found["energy"].sqrt()[found["new"]].sum(0)
        if not found["weighs"].any():
            raise BadModel(
                f"no layer that reads group {group.name!r} has a weight of its own; use weights=False, or "
                f"frozen={group.name!r}"
            )
        return found["weighted"][found["weighs"]].sum(0)
