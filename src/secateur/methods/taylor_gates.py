"""Taylor pruning. Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019 (1906.10771).

Claim: the first-order change of the loss at a gate after the batch norm ranks units across layers without
normalisation. Departure: one shot from one pass over the batches; the paper removes a few units every 30 steps of
fine-tuning. `per_macs` weighs what a unit's removal saves, in the spirit of the FLOPs term of Molchanov et al., ICLR
2017 (1611.06440), sec. 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..allocation.base import Allocator
from ..allocation.ranked import Ranked
from ..criteria.taylor import Taylor
from .base import Method, method


@method("taylor")
@dataclass(frozen=True)
class TaylorGates(Method):
    """Units whose gates matter least to the loss, to first order, ranked across all groups."""

    per_macs: float = 0.0
    paper = "Molchanov et al., CVPR 2019 (1906.10771)"
    criterion = Taylor()

    @property
    def allocator(self) -> Allocator:
        """One ranking."""
        return Ranked(per_macs=self.per_macs)
