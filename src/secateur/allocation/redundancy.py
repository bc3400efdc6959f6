"""Redundant groups give more: the fraction removed is in proportion to a group's redundancy. Ours.

Of group l the fraction p_l = min(t * rho_l, 1 - min_keep) goes, rho_l its redundancy over the mean of all groups, with
the smallest t that meets the budget: of its size units the n-th goes at t = n / (size * rho_l), so that this is one
ranking, and of several units that go at the same t only as many go as are needed. Redundancy is that of weights alone
(see `criteria/redundancy.py`): it ignores the data. That redundant layers can be pruned hard, even at random, is the
finding of Wang, Li and Wang, "Convolutional Neural Network Pruning with Structural Redundancy Reduction", CVPR 2021
(2104.03438); their redundancy is of a graph of near filters, ours of spectrum, similarity and magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..cost.cost import CostModel
from ..criteria.redundancy import Redundancy, of_group
from ..errors import BadModel, BadOption
from ..evidence.base import Evidence
from ..groups.graph import Graph
from ..groups.scores import Scores
from .base import allocator
from .ranked import Ranked

ROUNDING = 1e-9  # what sums leave of no redundancy at all
Statistic = Literal["combined", "spectral", "similar", "magnitude"]


@allocator("redundancy")
@dataclass(frozen=True)
class ByRedundancy(Ranked):
    """Remove a fraction of every group in proportion to its redundancy; within a group the highest scores stay.

    `statistic`: "combined", or one of "spectral" and "similar" (beyond chance) and "magnitude" alone. A group without
    any gives only when all others have given all they may. `keep` as for `ranked`; `per_macs` > 0 multiplies
    redundancies with (MACs that removing one unit saves) ** per_macs.
    """

    statistic: Statistic = "combined"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalise != "none":
            raise BadOption(
                f"normalise={self.normalise!r} of the redundancy allocator, which compares scores within groups "
                "alone: leave it out, or use the ranked allocator"
            )

    def relative(self, graph: Graph) -> dict[str, float]:
        """rho of each group: its redundancy over the mean of all. Raises `BadModel` where it has no weights."""
        if any(p.is_meta for p in graph.model.parameters()):
            raise BadModel("the model is on the meta device and has no weights whose redundancy could be measured")
        evidence = Evidence(graph.model)
        found = {g.name: self._of(of_group(g, evidence)) for g in graph.groups}
        mean = sum(found.values()) / max(len(found), 1)
        return {name: value / mean if mean > 0 else 1.0 for name, value in found.items()}

    def _of(self, redundancy: Redundancy) -> float:
        names = {"spectral": "spectral_beyond_chance", "similar": "similar_beyond_chance"}
        value: float = getattr(redundancy, names.get(self.statistic, self.statistic))
        return value if value > ROUNDING else 0.0

    def order(self, graph: Graph, scores: Scores, cost: CostModel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(removable,) group number and unit of every unit that may go, the one that goes at the smallest t first."""
        rho, may_go = self.relative(graph), self.removable(graph, cost)
        saving = cost.per_unit("macs") if self.per_macs else {}
        rates = [rho[g.name] * max(saving.get(g.name, 1.0), 1.0) ** self.per_macs for g in graph.groups]
        # Below this even the first unit of any group goes after the last of the others.
        last = min((r for r in rates if r > 0), default=1.0) / (2 * max((g.size for g in graph.groups), default=1))
        empty = np.zeros(0, dtype=np.int64)
        keys, groups, units = [np.zeros(0)], [empty], [empty]
        for number, (g, rate) in enumerate(zip(graph.groups, rates, strict=True)):
            rising = np.argsort(scores[g.name].numpy(), kind="stable")[: may_go[g.name]]
            keys.append(np.arange(1, rising.size + 1) / (g.size * max(rate, last)))
            groups.append(np.full(rising.size, number))
            units.append(rising)
        group, unit, key = np.concatenate(groups), np.concatenate(units), np.concatenate(keys)
        total = np.lexsort((group, key))  # stable: within a group in the order of its scores
        return group[total], unit[total]
