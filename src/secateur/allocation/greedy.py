"""Greedy: one step after another, each the one of the least further drop for what it saves, until limits are met."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from ..cost.cost import Cost, CostModel

Steps = Mapping[str, list[tuple[int, float]]]  # group -> (width, drop at it), the widest first; drops do not fall


def stepwise(
    steps: Steps, whole: Mapping[str, int], cost: CostModel, limits: Mapping[str, float]
) -> dict[str, int] | None:
    """Widths that meet the limits, of fields of the cost; None where even the last steps do not.

    Groups start at the first of their steps, and those without any stay at `whole`. What a step saves is the sum over
    the fields of its share of the dense model: the order of steps does not depend on the limits, and so tighter
    budgets nest.
    """
    dense, at = cost.dense(), dict.fromkeys(steps, 0)
    widths = {**whole, **{name: held[0][0] for name, held in steps.items()}}
    if not met(cost.at(widths | {name: held[-1][0] for name, held in steps.items()}), limits):
        return None

    def turn(name: str) -> tuple[float, float, str]:
        (_, before), (width, after) = steps[name][at[name]], steps[name][at[name] + 1]
        then = cost.at(widths | {name: width})
        saved = sum((getattr(now, field) - getattr(then, field)) / getattr(dense, field) for field in limits)
        rate = (after - before) / saved if saved > 0 else float("inf") if after > before else 0.0
        return rate, -saved, name  # of several that cost nothing, the one that saves most

    now = cost.at(widths)
    turns = [turn(name) for name, held in steps.items() if len(held) > 1]
    heapq.heapify(turns)
    while not met(now, limits):
        name = heapq.heappop(turns)[2]
        # What others gave meanwhile makes a step save less: if it is still the first, no other comes before it.
        if turns and (renewed := turn(name)) > turns[0]:
            heapq.heappush(turns, renewed)
            continue
        at[name] += 1
        widths[name] = steps[name][at[name]][0]
        now = cost.at(widths)
        if at[name] + 1 < len(steps[name]):
            heapq.heappush(turns, turn(name))
    return widths


def met(reached: Cost, limits: Mapping[str, float]) -> bool:
    """Whether a cost is within all limits."""
    return all(getattr(reached, field) <= limit for field, limit in limits.items())
