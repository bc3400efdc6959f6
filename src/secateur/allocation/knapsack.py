"""Knapsack: of all widths that meet the budget, those that keep the most score.

A multiple-choice knapsack, as in Shen et al., "Structural Pruning via Latency-Saliency Knapsack", NeurIPS 2022
(2210.06659): each group offers widths, each with the sum of its highest scores and a cost. Departures: the grouped
problem is solved by frontiers of what is worth its cost, exactly while these are short, where the paper's 0/1 programme
is not always optimal; and since the cost of one layer depends on the width of the one before, costs are taken
anew at each answer until it stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget, BudgetUnreachable
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import Allocator, allocator, multiples, rounded, unreachable

Floats = NDArray[np.float64]
Table = tuple[Floats, Floats]  # what each choice costs, and is worth
LENGTH = 1024  # of a frontier; a longer one is thinned
CHOICES = 48  # widths that a group offers
ROUNDS = 8


def most_worth(tables: Sequence[Table], capacity: float, length: int = LENGTH) -> list[int] | None:
    """One choice of each table, of the largest sum of worth whose sum of costs is at most `capacity`; None if none is.

    Costs may fall and rise along a table. Exact while no frontier is longer than `length`; never over capacity.
    """
    cheapest = np.array([cost.min() for cost, _ in tables])
    after = np.append(np.cumsum(cheapest[::-1])[::-1][1:], 0.0)  # the least that the tables still to come cost
    costs, worths = np.zeros(1), np.zeros(1)
    trail: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for (cost, worth), rest in zip(tables, after, strict=True):
        each, gain = (costs[:, None] + cost).ravel(), (worths[:, None] + worth).ravel()
        fits = np.flatnonzero(each + rest <= capacity)
        if not fits.size:
            return None
        order = fits[np.lexsort((-gain[fits], each[fits]))]
        best = np.maximum.accumulate(gain[order])
        front = order[np.append(True, gain[order][1:] > best[:-1])]
        if front.size > length:
            front = _thinned(front, each, length)
        costs, worths = each[front], gain[front]
        trail.append(np.divmod(front, len(cost)))
    at, chosen = costs.size - 1, []
    for before, choice in reversed(trail):
        chosen.append(int(choice[at]))
        at = int(before[at])
    return chosen[::-1]


def _thinned(front: NDArray[np.int64], cost: Floats, length: int) -> NDArray[np.int64]:
    """So many of a frontier: in each of equal stretches of cost the last, which is worth the most."""
    held = cost[front]
    stretch = np.floor((held - held[0]) / max(held[-1] - held[0], np.finfo(float).tiny) * (length - 1))
    last = np.append(stretch[1:] != stretch[:-1], True)
    last[0] = True
    return front[last]


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
        problem = _Problem(graph, scores, cost, budget.limits(cost.dense()), self._options(graph))
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


class _Problem:
    """Widths to choose, what they are worth, and what they really cost."""

    def __init__(
        self,
        graph: Graph,
        scores: Scores,
        cost: CostModel,
        limits: Mapping[str, float],
        options: Mapping[str, Sequence[int]],
    ) -> None:
        self.cost, self.limits, self.options = cost, dict(limits), options
        self.names = [g.name for g in graph.groups]
        self.least = {n: o[0] for n, o in options.items()}
        falling = {n: np.sort(scores[n].numpy())[::-1] for n in self.names}
        self.worth = {n: np.append(0.0, np.cumsum(s))[list(options[n])] for n, s in falling.items()}

    def fits(self, widths: Mapping[str, int]) -> bool:
        found = self.cost.at(widths)
        return all(getattr(found, field) <= limit for field, limit in self.limits.items())

    def value(self, widths: Mapping[str, int]) -> float:
        return float(sum(self.worth[n][self.options[n].index(widths[n])] for n in self.names))

    def solve(self) -> dict[str, int]:
        """Costs are taken around an answer; the answers that really fit are kept, and the best of them is filled up."""
        best, around = self.least, {n: o[-1] for n, o in self.options.items()}
        seen: list[dict[str, int]] = []
        for _ in range(ROUNDS):
            found = self._around(around)
            if found is None:
                half = {n: (w + self.least[n]) // 2 for n, w in around.items()}
                around = {n: max(o for o in self.options[n] if o <= half[n]) for n in self.names}
                continue
            if self.fits(found) and self.value(found) > self.value(best):
                best = found
            if found in seen:
                break
            seen.append(found)
            around = found
        return self._filled(best)

    def _around(self, widths: Mapping[str, int]) -> dict[str, int] | None:
        """The best widths if each group's cost did not depend on the others', which are as in `widths`."""
        now = self.cost.at(widths)
        base = sum(getattr(now, field) / limit for field, limit in self.limits.items())
        tables = []
        for name in self.names:
            each = [self.cost.along(name, self.options[name], widths, f) / limit for f, limit in self.limits.items()]
            tables.append((np.sum(each, axis=0) - base, self.worth[name]))
        chosen = most_worth(tables, len(self.limits) - base + 1e-12)
        if chosen is None:
            return None
        return {n: self.options[n][i] for n, i in zip(self.names, chosen, strict=True)}

    def _filled(self, widths: dict[str, int]) -> dict[str, int]:
        """A step wider where that fits and is worth something, the most worth first, as long as there is one."""
        widths, grown = dict(widths), True
        while grown:
            at = {n: self.options[n].index(w) for n, w in widths.items()}
            gain = {n: self.worth[n][i + 1] - self.worth[n][i] for n, i in at.items() if i + 1 < len(self.options[n])}
            grown = False
            for name in sorted(gain, key=lambda n: -gain[n]):
                wider = widths | {name: self.options[name][at[name] + 1]}
                if gain[name] > 0 and self.fits(wider):
                    widths, grown = wider, True
        return widths
