"""Uniform: the same fraction of every group."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import Allocator, allocator, least_removal


@allocator("uniform")
@dataclass(frozen=True)
class Uniform(Allocator):
    """Keep floor(keep * size) units of every group, at least one.

    Without `keep`, the largest fraction that meets the budget.
    """

    keep: float | None = None

    def __post_init__(self) -> None:
        if self.keep is not None and not 0 < self.keep <= 1:
            raise BadBudget(f"keep={self.keep!r} is not a fraction to keep; give 0 < keep <= 1")

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """The plan; within a group the highest scores stay."""
        if self.keep is not None:
            fraction = Fraction(str(self.keep))  # as written: 0.29 * 100 is 28.999... in floats
        elif budget is None:
            raise BadBudget("the uniform allocator needs a budget or a fraction: Uniform(keep=0.5)")
        else:
            # Widths only change where fraction * size is whole, so these are all the fractions there are.
            falling = sorted({Fraction(k, g.size) for g in graph.groups for k in range(1, g.size + 1)}, reverse=True)
            steps = [Fraction(1), *(f for f in falling if f < 1)]
            fraction = steps[least_removal(len(steps) - 1, lambda i: _widths(graph, steps[i]), cost, budget)]
        kept = {}
        for group in graph.groups:
            falling_scores = np.argsort(-scores[group.name].numpy(), kind="stable")
            kept[group.name] = np.sort(falling_scores[: _width(group.size, fraction)])
        return Plan.keeping(graph, kept)


def _width(size: int, fraction: Fraction) -> int:
    return max(1, int(fraction * size))


def _widths(graph: Graph, fraction: Fraction) -> dict[str, int]:
    return {g.name: _width(g.size, fraction) for g in graph.groups}
