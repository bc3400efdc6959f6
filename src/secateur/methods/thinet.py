"""ThiNet. Luo, Wu, Lin, "ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression", ICCV 2017
(1707.06342).

Claim: channels chosen by what the next layer gives, half of every layer, and a short fine-tuning after each layer.
Departures: all groups are chosen at once, from what the dense network's layers read; `methods.layerwise.layerwise` goes
layer by layer as the paper does. Kept channels are scaled when `repair="reconstruct"` refits the readers, from what the
cut network's layers read, in the order they run. No fine-tuning between layers. Trunks of residual networks are cut,
too, which the paper leaves whole: freeze them for its networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..allocation.base import Allocator
from ..allocation.uniform import Uniform
from ..criteria.thinet import ThiNet
from .base import Method, method


@method("thinet")
@dataclass(frozen=True)
class ThiNetPruning(Method):
    """Channels whose summed contribution to the next layer is smallest, the same fraction of every group."""

    per_macs: float = 0.0
    paper = "Luo et al., ICCV 2017 (1707.06342)"
    criterion = ThiNet()

    @property
    def allocator(self) -> Allocator:
        """The same fraction everywhere."""
        return Uniform(per_macs=self.per_macs)
