"""L1 filter pruning. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017 (1608.08710).

Claim: removing whole filters of small L1 norm and fine-tuning loses little. Departure: the paper sets a ratio per stage
by hand from sensitivity curves (see `li2017` for its published configurations); here every group keeps the same
fraction, the largest that meets the budget; `per_macs` lets early, costly layers give more.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..allocation.base import Allocator
from ..allocation.uniform import Uniform
from ..criteria.l1 import L1
from .base import Method, method


@method("l1")
@dataclass(frozen=True)
class L1Filter(Method):
    """Filters of smallest L1 norm, the same fraction of every group (see `Uniform` for `per_macs`)."""

    per_macs: float = 0.0
    paper = "Li et al., ICLR 2017 (1608.08710)"
    criterion = L1()

    @property
    def allocator(self) -> Allocator:
        """The same fraction everywhere."""
        return Uniform(per_macs=self.per_macs)
