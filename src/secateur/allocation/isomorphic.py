"""Isomorphic pruning. Fang, Ma, Mi, Wang: "Isomorphic Pruning for Vision Models", ECCV 2024 (2407.04616).

Claim: scores of sub-structures of unlike topology (heads, hidden units of an MLP, channels of a stream) are spread
unlike, so that one ranking of all is misled; ranked apart, and cut by the same fraction, they are not. Departures:
the paper's signature is the sequence of layer types along a group; ours adds kernels and whether a convolution is
depthwise, so that the 1x1 and the 3x3 layers of a bottleneck rank apart. The fraction follows from the budget, and of
several units that go at the same fraction only as many go as are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cost.cost import CostModel
from ..groups.graph import Graph
from ..groups.scores import Scores
from .base import allocator
from .ranked import Ranked
from .scopes import scopes


@allocator("isomorphic")
@dataclass(frozen=True)
class Isomorphic(Ranked):
    """Rank units among groups of the same structure only; every such scope loses the same fraction of its units.

    The n-th of a scope goes at fraction n / (its units), the smallest fraction first. Options as of `ranked`.
    """

    def order(self, graph: Graph, scores: Scores, cost: CostModel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(removable,) group number and unit of every unit that may go, the one that goes at the least fraction
        first; of several the one of the lowest score."""
        group, unit = super().order(graph, scores, cost)
        scope, told = scopes(graph), self.told(graph)
        ranked = np.array([0 if g.name in told else g.size for g in graph.groups], dtype=np.float64)
        units = np.bincount(scope, weights=ranked) if scope.size else ranked
        fraction = np.zeros(group.size)
        for number in np.unique(scope[group]):
            mine = np.flatnonzero(scope[group] == number)
            fraction[mine] = np.arange(1, mine.size + 1) / units[number]
        total = np.argsort(fraction, kind="stable")
        return group[total], unit[total]
