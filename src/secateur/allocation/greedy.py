"""Greedy: one step after another, each the one of the least further drop for what it saves, until limits are met."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BudgetUnreachable
from .base import unreachable

Steps = Mapping[str, list[tuple[int, float]]]  # group -> (width, drop at it), the widest first; drops do not fall


def stepwise(steps: Steps, whole: Mapping[str, int], cost: CostModel, budget: Budget) -> dict[str, int]:
    """Widths that meet the budget; groups start at the first of their steps, and those without any stay at `whole`.

    What a step saves is the sum over the budget's fields of its share of the dense model. The order of steps does not
    depend on the limits, so that tighter budgets nest. Raises `BudgetUnreachable`, `NothingToDo`.
    """
    dense = cost.dense()
    limits, at = budget.limits(dense), dict.fromkeys(steps, 0)
    widths = {**whole, **{name: held[0][0] for name, held in steps.items()}}
    least = widths | {name: held[-1][0] for name, held in steps.items()}
    if not within(cost, least, limits):
        raise BudgetUnreachable(unreachable(budget, limits, cost.at(least), dense))

    def turn(name: str) -> tuple[float, float, str]:
        (_, before), (width, after) = steps[name][at[name]], steps[name][at[name] + 1]
        now, then = cost.at(widths), cost.at(widths | {name: width})
        saved = sum((getattr(now, field) - getattr(then, field)) / getattr(dense, field) for field in limits)
        rate = (after - before) / saved if saved > 0 else float("inf") if after > before else 0.0
        return rate, -saved, name  # of several that cost nothing, the one that saves most

    turns = [turn(name) for name, held in steps.items() if len(held) > 1]
    heapq.heapify(turns)
    while not within(cost, widths, limits):
        name = heapq.heappop(turns)[2]
        # What others gave meanwhile makes a step save less: if it is still the first, no other comes before it.
        if turns and (renewed := turn(name)) > turns[0]:
            heapq.heappush(turns, renewed)
            continue
        at[name] += 1
        widths[name] = steps[name][at[name]][0]
        if at[name] + 1 < len(steps[name]):
            heapq.heappush(turns, turn(name))
    return widths


def within(cost: CostModel, widths: Mapping[str, int], limits: Mapping[str, float]) -> bool:
    """Whether widths meet all limits."""
    reached = cost.at(widths)
    return all(getattr(reached, field) <= limit for field, limit in limits.items())
