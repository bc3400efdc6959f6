"""The contract of an allocator, and the search for the least removal that meets a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..cost.budget import Budget
from ..cost.cost import Cost, CostModel
from ..errors import BadBudget, BudgetUnreachable
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from ..registry import Options, Registry


@dataclass(frozen=True)
class Allocator(Options):
    """Scores + cost + budget -> plan."""

    name: ClassVar[str] = ""
    nests: ClassVar[bool] = True  # what a looser budget removes, a tighter one removes too

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """A plan that meets the budget. Raises `BudgetUnreachable` (says the least) and `NothingToDo`."""
        raise NotImplementedError(f"{type(self).__name__} does not define allocate(graph, scores, cost, budget)")


TOGETHER = 64  # steps that are priced at once

ALLOCATORS: Registry[Allocator] = Registry("allocator", __package__)
allocator = ALLOCATORS.register


def least_removal(steps: int, widths: Callable[[int], dict[str, int]], cost: CostModel, budget: Budget) -> int:
    """The smallest step in 0..steps whose widths meet the budget; widths must not grow with the step.

    Raises `NothingToDo`, and `BudgetUnreachable` before any search when even the last step misses.
    """
    limits = budget.limits(cost.dense())

    def meets(step: int) -> bool:
        reached = cost.at(widths(step))
        return all(getattr(reached, field) <= limit for field, limit in limits.items())

    if meets(0):  # what the options ask for is enough
        return 0
    slower_may_be_smaller = "latency_ms" in limits
    found = _first(steps, widths, cost, limits) if slower_may_be_smaller else steps if meets(steps) else None
    if found is None:
        raise BudgetUnreachable(unreachable(budget, limits, cost.at(widths(steps)), cost.dense()))
    if slower_may_be_smaller:
        return found
    low, high = 0, steps  # low misses, high meets
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high


def _first(
    steps: int, widths: Callable[[int], dict[str, int]], cost: CostModel, limits: dict[str, float]
) -> int | None:
    """The first step whose widths are within limits, all of them tried in turn."""
    for start in range(1, steps + 1, TOGETHER):
        tried = range(start, min(start + TOGETHER, steps + 1))
        found = cost.of([widths(step) for step in tried], limits)
        within = np.all([found[field] <= limit for field, limit in limits.items()], axis=0)
        if within.any():
            return tried[int(np.argmax(within))]
    return None


def without_lowest(
    graph: Graph, group: NDArray[np.int64], unit: NDArray[np.int64], drop: int, budget: Budget | None
) -> Plan:
    """A plan without the first `drop` of these units, given as number of the group and unit, lowest first.

    Raises `BadBudget` where a budget is given too, `BudgetUnreachable` where there are fewer.
    """
    if budget is not None:
        raise BadBudget(f"Ranked(drop={drop}) and budget {budget}: give one of them")
    if group.size < drop:
        raise BudgetUnreachable(f"drop={drop} units asked, and only {group.size} may go; give less")
    gone = [unit[:drop][group[:drop] == number] for number in range(len(graph.groups))]
    return Plan.keeping(
        graph, {g.name: np.delete(np.arange(g.size), units) for g, units in zip(graph.groups, gone, strict=True)}
    )


def unreachable(budget: Budget, limits: dict[str, float], least: Cost, dense: Cost) -> str:
    """The message: what was asked, and the least that can be reached."""
    parts = [
        f"{field} {limit:.6g} asked, at least {_exactly(getattr(least, field))} "
        f"({getattr(least, field) / getattr(dense, field):.4g} of dense)"
        for field, limit in limits.items()
        if getattr(least, field) > limit
    ]
    return (
        f"budget {budget} is below the reachable minimum: {'; '.join(parts)}. Raise it, freeze less, or lower min_keep"
    )


def _exactly(amount: float) -> str:
    """A count in full; milliseconds, which are predicted, to four figures."""
    return f"{amount:.4g}" if isinstance(amount, float) else str(amount)
