"""Ranked: one ranking of all units, the lowest removed until the budget is met, and not one more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget
from ..groups.graph import Graph
from ..groups.group import Group
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import Allocator, allocator, check_power, least_removal, multiples, per_group, rounded, without_lowest


@allocator("ranked")
@dataclass(frozen=True)
class Ranked(Allocator):
    """Rank units across all groups by score / (MACs that the unit's removal alone would save) ** per_macs.

    0 ranks by score alone; 1 by score per MAC, the aim of the FLOPs term of Molchanov et al., ICLR 2017 (1611.06440);
    in between, cheap units of late layers gain on expensive ones of early layers.

    `min_keep`: units that each group keeps whatever happens (at least 1), or the fraction of the group if below 1.
    `keep` {group name or glob: fraction}: groups that get this fraction and take no part in the ranking. `round_to`, a
    number or {group name or glob: number}: widths are brought down to multiples of it, so that more than one unit fewer
    may miss the budget. `drop`: that many units go, the lowest ranked, and no budget is given; of residual blocks, that
    many blocks. Ties go to the earlier group and unit, so the ranking is total: tighter budgets nest.
    """

    per_macs: float = 0.0
    min_keep: float = 1
    keep: dict[str, float] | None = None
    round_to: int | dict[str, int] = 1
    drop: int | None = None

    def __post_init__(self) -> None:
        check_power(self.per_macs)
        if self.keep and not all(0 < fraction <= 1 for fraction in self.keep.values()):
            raise BadBudget(f"keep={self.keep!r} is not a fraction to keep; give 0 < keep <= 1")
        if not 0 < self.min_keep < math.inf:
            raise BadBudget(f"min_keep={self.min_keep!r}: a group must keep at least one unit")

        if self.drop is not None and self.drop < 1:
            raise BadBudget(f"drop={self.drop!r}: give how many units are to go, at least 1")

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """The plan that removes the fewest units, in rank order, that meets the budget."""
        group, unit = self.order(graph, scores, cost)
        if self.drop is not None:
            return without_lowest(graph, group, unit, self.drop, budget)
        if budget is None:
            raise BadBudget(
                "the ranked allocator needs a budget, such as Budget(macs=0.5); Uniform(keep=0.5) does without"
            )
        widths = self._widths(graph, group)
        limits, told = budget.limits(cost.dense()), cost.at(widths(0))
        # What `keep` says may meet the budget by itself; then the ranking removes nothing.
        enough = bool(self.keep) and all(getattr(told, field) <= limit for field, limit in limits.items())
        left = widths(0 if enough else least_removal(group.size, widths, cost, budget))
        kept = {}
        for g in graph.groups:
            rising = np.argsort(scores[g.name].numpy(), kind="stable")
            kept[g.name] = np.sort(rising[g.size - left[g.name] :])
        return Plan.keeping(graph, kept)

    def _fixed(self, graph: Graph) -> dict[str, int]:
        """The widths that are no matter of ranking."""
        told = per_group("keep", self.keep, graph, 0.0) if self.keep else {}
        # As written: 0.29 * 100 is 28.999... in floats.
        exact = {name: Fraction(str(fraction)) for name, fraction in told.items() if fraction}
        return {g.name: max(1, g.least, int(exact[g.name] * g.size)) for g in graph.groups if g.name in exact}

    def _floor(self, group: Group) -> int:
        """The least that a group keeps."""
        size = group.size
        if not group.least:
            return 0
        least = math.ceil(self.min_keep * size) if self.min_keep < 1 else int(self.min_keep)
        return min(size, max(group.least, least))

    def order(self, graph: Graph, scores: Scores, cost: CostModel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(removable,) group number and unit of every unit that may go, lowest rank first."""
        saving = cost.per_unit("macs") if self.per_macs else {}
        fixed = self._fixed(graph)
        keys, groups, units = [], [], []
        for number, g in enumerate(graph.groups):
            score = scores[g.name].numpy() / max(saving.get(g.name, 1.0), 1.0) ** self.per_macs
            floor = g.size if g.name in fixed else self._floor(g)
            rising = np.argsort(score, kind="stable")[: max(g.size - floor, 0)]
            keys.append(score[rising])
            groups.append(np.full(rising.size, number))
            units.append(rising)
        if not keys:
            empty = np.zeros(0, dtype=np.int64)
            return empty, empty
        group, unit, key = np.concatenate(groups), np.concatenate(units), np.concatenate(keys)
        total = np.lexsort((unit, group, key))
        return group[total], unit[total]

    def _widths(self, graph: Graph, group: NDArray[np.int64]) -> Callable[[int], dict[str, int]]:
        sizes = np.array([g.size for g in graph.groups])
        fixed, steps = self._fixed(graph), multiples(graph, self.round_to)
        # Brought down to a multiple, a width goes no further than the first multiple that keeps what must be kept.
        least = {g.name: min(g.size, -(-self._floor(g) // steps[g.name]) * steps[g.name]) for g in graph.groups}

        def at(step: int) -> dict[str, int]:
            left = sizes - np.bincount(group[:step], minlength=sizes.size)
            held = {g.name: fixed.get(g.name, int(n)) for g, n in zip(graph.groups, left, strict=True)}
            down = {g.name: rounded(held[g.name], g.size, steps[g.name]) for g in graph.groups}
            return {g: n if g in fixed else max(n, least[g]) for g, n in down.items()}

        return at
