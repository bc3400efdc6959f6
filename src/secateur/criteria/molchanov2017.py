"""First-order Taylor importance of activations. Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural
Networks for Resource Efficient Inference", ICLR 2017 (1611.06440), sec. 2.2, with the L2 normalisation of each layer.

Claim: a feature map z whose dC/dz * z averages to little over its positions can go: to first order that is the change
of the cost. Examples are told apart: the absolute value is taken before the mean over them. Departures: z is what
layers read of a unit, after all activations, and where several layers read it their sums are added before they are
divided by the positions of the one that reads most; the term for FLOPs, which asks for costs, is left to the allocator
("ranked" with per_macs).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..evidence.base import Evidence
from ..groups.group import Group
from .base import Criterion, criterion


@criterion("taylor-activation")
@dataclass(frozen=True)
class TaylorActivation(Criterion):
    """s_k = t_k / sqrt(sum_j t_j^2), t_k = mean over examples of |mean over positions of dC/dz_k * z_k|."""

    needs = frozenset({"weights", "example_gradients"})
    comparable = True

    def score(self, group: Group, evidence: Evidence) -> Tensor:
        """(units,), of norm 1; all 0 where nothing reaches the cost."""
        found = evidence.of("example_gradients", group.name)
        mean = found["absolute"] / found["count"]
        norm = mean.norm()
        return mean / norm if norm > 0 else mean
