"""L2 norm, one ranking across the network: what most toolkits do when asked to prune "globally".

Norms of different layers stand on different scales, so each group's scores are divided by their mean first
(Fang et al., "DepGraph", CVPR 2023, 2301.12900, sec. 3.3, do likewise for coupled layers).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..allocation.base import Allocator
from ..allocation.ranked import Ranked
from .base import Method, method


@method("l2")
@dataclass(frozen=True)
class L2Ranked(Method):
    """Units of smallest L2 norm relative to their group's mean, ranked across all groups."""

    per_macs: float = 0.0
    paper = "Fang et al., CVPR 2023 (2301.12900)"

    @property
    def allocator(self) -> Allocator:
        """One ranking."""
        return Ranked(per_macs=self.per_macs)
