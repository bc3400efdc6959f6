"""Knapsack: of all widths that meet the budget, those that keep the most score.

A multiple-choice knapsack, as in Shen et al., "Structural Pruning via Latency-Saliency Knapsack", NeurIPS 2022
(2210.06659): each group offers widths, each with the sum of its highest scores and a cost. Departures: the grouped
problem is solved by frontiers of what is worth its cost, exactly while these are short, where the paper's 0/1 programme
is not always optimal; and since the cost of one layer depends on the width of the one before, costs are taken
anew at each answer until it stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget, BudgetUnreachable
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import Allocator, allocator, multiples, rounded, unreachable
from .widths import Problem

CHOICES = 48  # widths that a group offers


@allocator("knapsack")
@dataclass(frozen=True)
class Knapsack(Allocator):
    """The widths that meet the budget and keep the largest sum of scores.

    `min_keep`: units that each group keeps (at least 1). `round_to`, a number or {group name or glob: number}: widths
    are multiples of it. Tighter budgets need not nest. Of several fields in a budget, the sum of what each takes of its
    limit is what a width costs. Scores below zero count as they are: such units are worth removing.
    """

    nests: ClassVar[bool] = False
    min_keep: int = 1
    round_to: int | dict[str, int] = 1

    def __post_init__(self) -> None:
        if self.min_keep < 1:
            raise BadBudget(f"min_keep={self.min_keep!r}: a group must keep at least one unit")

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """The plan. Raises `BadBudget` without a budget, `NothingToDo`, and `BudgetUnreachable` (says the least)."""
        if budget is None:
            raise BadBudget("the knapsack allocator needs a budget, such as Budget(macs=0.5)")
        problem = Problem(graph, scores, cost, budget.limits(cost.dense()), self._options(graph))
        if not problem.fits(problem.least):
            raise BudgetUnreachable(unreachable(budget, problem.limits, cost.at(problem.least), cost.dense()))
        widths = problem.solve()
        kept = {}
        for group in graph.groups:
            falling = np.argsort(-scores[group.name].numpy(), kind="stable")
            kept[group.name] = np.sort(falling[: widths[group.name]])
        return Plan.keeping(graph, kept)

    def _options(self, graph: Graph) -> dict[str, list[int]]:
        """The widths that each group offers, rising."""
        steps, found = multiples(graph, self.round_to), {}
        for g in graph.groups:
            least = min(g.size, max(self.min_keep, g.least)) if g.least else 0
            all_widths = sorted({max(rounded(w, g.size, steps[g.name]), least) for w in range(least, g.size + 1)})
            at = np.unique(np.linspace(0, len(all_widths) - 1, CHOICES).round().astype(int))
            found[g.name] = [all_widths[i] for i in at]
        return found
