"""ThiNet. Luo, Wu, Lin, "ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression", ICCV 2017
(1707.06342).

Claim: layer by layer, channels go by what the next layer gives, half of every layer; each kept channel is scaled by
least squares, and a short fine-tuning follows. `sequential` (the default, for it is what the paper does) chooses each
group on the network that was cut and refitted before it; without it, all groups at once from what the dense network's
layers read, in one pass and far faster.
A plan says which channels stay and holds no weights: `repair="reconstruct"` refits all weights on them, which holds the
paper's factors, and with `refit="full"`, the default, choices are made for that. The paper's own network is that of
`methods.layerwise.layerwise(criterion="thinet", refit="scale")`; `refit="scale"` here gives its plan.
Departures: no fine-tuning between layers. Trunks of residual networks are cut, too, which the paper leaves whole:
freeze them for its networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..criteria.thinet import ThiNet
from .base import method
from .layerwise import InOrder, Refit


@method("thinet")
@dataclass(frozen=True)
class ThiNetPruning(InOrder):
    """Channels whose summed contribution to the next layer is smallest, the same fraction of every group, in order."""

    refit: Refit = "full"
    paper = "Luo et al., ICCV 2017 (1707.06342)"
    criterion = ThiNet()

    @property
    def between(self) -> Refit:
        """As chosen."""
        return self.refit
