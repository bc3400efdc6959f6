"""Channel pruning by LASSO and reconstruction. He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural
Networks", ICCV 2017 (1707.06168).

Claim: layer by layer, LASSO chooses which input channels stay and least squares refits the layer on them, without
labels. Departures: all groups are chosen at once, from what the dense network's layers read, and in the same
proportion, where the paper sets ratios by hand; `methods.layerwise.layerwise` goes layer by layer. The refit is
`repair="reconstruct"`: targets from the dense network, inputs from the cut one, in the order the layers run. The last
layer of a residual branch is refitted to its own dense output; the paper adds what the shortcut has lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..allocation.base import Allocator
from ..allocation.uniform import Uniform
from ..criteria.lasso import Lasso
from .base import Method, method


@method("he2017")
@dataclass(frozen=True)
class LassoPruning(Method):
    """Channels that LASSO leaves of what the next layer reads, the same fraction of every group."""

    per_macs: float = 0.0
    paper = "He et al., ICCV 2017 (1707.06168)"
    criterion = Lasso()

    @property
    def allocator(self) -> Allocator:
        """The same fraction everywhere."""
        return Uniform(per_macs=self.per_macs)
