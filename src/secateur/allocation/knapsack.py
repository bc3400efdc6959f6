"""Knapsack: of all widths that meet the budget, those that keep the most score.

A multiple-choice knapsack, as in Shen et al., "Structural Pruning via Latency-Saliency Knapsack", NeurIPS 2022
(2210.06659): each group offers widths, each with the sum of its highest scores and a cost. Departures: the grouped
problem is solved by frontiers of what is worth its cost, exactly while these are short, where the paper's 0/1 programme
is not always optimal; and since the cost of one layer depends on the width of the one before, costs are taken
anew at each answer, narrowed until it really fits, a few times or until it stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget, BudgetUnreachable
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import allocator, unreachable
from .choices import Bounded, highest, thinned
from .widths import Problem

CHOICES = 48  # widths that a group offers


@allocator("knapsack")
@dataclass(frozen=True)
class Knapsack(Bounded):
    """The widths that meet the budget and keep the largest sum of scores.

    Tighter budgets need not nest. Of several fields in a budget, the weighted mean of what each takes of its limit
    is what a width costs; fields that were missed weigh more the next time. Scores below zero count as they are: such
    units are worth removing.
    """

    nests: ClassVar[bool] = False

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """The plan. Raises `BadBudget` without a budget, `NothingToDo`, and `BudgetUnreachable` (says the least)."""
        if budget is None:
            raise BadBudget("the knapsack allocator needs a budget, such as Budget(macs=0.5)")
        choices = self.choices(graph, cost)
        options = {name: thinned(widths.tolist(), CHOICES) for name, widths in choices.widths.items()}
        problem = Problem(graph, scores, cost, budget.limits(cost.dense()), options)
        if not problem.fits(problem.least):
            raise BudgetUnreachable(unreachable(budget, problem.limits, cost.at(problem.least), cost.dense()))
        return Plan.keeping(graph, highest(graph, scores, problem.solve()))
