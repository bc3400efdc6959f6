"""Channel pruning by LASSO and reconstruction. He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural
Networks", ICCV 2017 (1707.06168).

Claim: layer by layer, LASSO chooses which input channels stay and least squares refits the layer on them, without
labels. `sequential` (the default, for it is what the paper does) chooses each group on the network that was cut and
refitted before it, towards what the dense layers gave; without it, all groups at once from what the dense network's
layers read, in one pass and far faster. A plan says which channels stay; the refit of the network is
`repair="reconstruct"`: targets from the dense network, inputs from the cut one, in the order the layers run, the last
layer of a residual branch making up for what the shortcut has lost.
Departures: the same proportion of all groups, where the paper sets ratios by hand; trunks of residual networks are cut,
where the paper samples the channels that a branch's first layer reads of a whole trunk; no least squares through ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..criteria.lasso import Lasso
from .base import method
from .layerwise import InOrder


@method("he2017")
@dataclass(frozen=True)
class LassoPruning(InOrder):
    """Channels that LASSO leaves of what the next layer reads, the same fraction of every group, in order."""

    paper = "He et al., ICCV 2017 (1707.06168)"
    criterion = Lasso()
