"""Ranked: one ranking of all units, the lowest removed until the budget is met, and not one more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import allocator, least_removal, without_lowest
from .choices import Bounded, Choices, per_group
from .scopes import Normalise, Normaliser, check_normaliser, normalised


@allocator("ranked")
@dataclass(frozen=True)
class Ranked(Bounded):
    """Rank units across all groups by score / (MACs that the unit's removal alone would save) ** per_macs.

    0 ranks by score alone; 1 by score per MAC, the aim of the FLOPs term of Molchanov et al., ICLR 2017 (1611.06440);
    in between, cheap units of late layers gain on expensive ones of early layers.

    `keep` {group name or glob: fraction}: groups that get this fraction and take no part in the ranking. With
    `round_to`, widths are brought down, so that more than one unit fewer may miss the budget. `drop`: that many units
    go, the lowest ranked, and no budget is given; of residual blocks, that many blocks. Ties go to the earlier group
    and unit, so the ranking is total: tighter budgets nest. `normalise`: scores are put on the scale of their "group",
    or of its "scope", all groups of the same structure, `by` dividing by the "mean", "sum" or "max", or by "min-max" or
    "z-score" (see `scopes.py`).
    """

    per_macs: float = 0.0
    keep: dict[str, float] | None = None
    drop: int | None = None
    normalise: Normalise = "none"
    by: Normaliser = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_normaliser(self.normalise, self.by, self.per_macs)
        if self.keep and not all(0 < fraction <= 1 for fraction in self.keep.values()):
            raise BadBudget(f"keep={self.keep!r} is not a fraction to keep; give 0 < keep <= 1")
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
        widths = self._widths(graph, group, self.choices(graph, cost))
        left = widths(least_removal(group.size, widths, cost, budget))
        kept = {}
        for g in graph.groups:
            rising = np.argsort(scores[g.name].numpy(), kind="stable")
            kept[g.name] = np.sort(rising[g.size - left[g.name] :])
        return Plan.keeping(graph, kept)

    def told(self, graph: Graph) -> dict[str, int]:
        """The widths that are no matter of ranking."""
        told = per_group("keep", self.keep, graph, 0.0) if self.keep else {}
        # As written: 0.29 * 100 is 28.999... in floats.
        exact = {name: Fraction(str(fraction)) for name, fraction in told.items() if fraction}
        return {g.name: max(1, g.least, int(exact[g.name] * g.size)) for g in graph.groups if g.name in exact}

    def removable(self, graph: Graph, cost: CostModel) -> dict[str, int]:
        """How many units of each group may go; none of those whose width is told."""
        fixed, least = self.told(graph), self.choices(graph, cost).least()
        return {g.name: 0 if g.name in fixed else g.size - least[g.name] for g in graph.groups}

    def order(self, graph: Graph, scores: Scores, cost: CostModel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(removable,) group number and unit of every unit that may go, lowest rank first."""
        saving = cost.per_unit("macs") if self.per_macs else {}
        may_go, scores = self.removable(graph, cost), normalised(graph, scores, self.normalise, self.by)
        keys, groups, units = [], [], []
        for number, g in enumerate(graph.groups):
            score = scores[g.name].numpy() / max(saving.get(g.name, 1.0), 1.0) ** self.per_macs
            rising = np.argsort(score, kind="stable")[: may_go[g.name]]
            keys.append(score[rising])
            groups.append(np.full(rising.size, number))
            units.append(rising)
        if not keys:
            empty = np.zeros(0, dtype=np.int64)
            return empty, empty
        group, unit, key = np.concatenate(groups), np.concatenate(units), np.concatenate(keys)
        total = np.lexsort((unit, group, key))
        return group[total], unit[total]

    def _widths(self, graph: Graph, group: NDArray[np.int64], choices: Choices) -> Callable[[int], dict[str, int]]:
        sizes = np.array([g.size for g in graph.groups])
        fixed = self.told(graph)

        def at(step: int) -> dict[str, int]:
            left = sizes - np.bincount(group[:step], minlength=sizes.size)
            held = {g.name: fixed.get(g.name, int(n)) for g, n in zip(graph.groups, left, strict=True)}
            return {name: choices.down(name, width) for name, width in held.items()}

        return at
