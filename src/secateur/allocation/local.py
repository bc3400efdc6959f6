"""Local: every group loses the same fraction of its units, by its own scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import allocator, least_removal
from .choices import Bounded, Choices, highest

ROUNDING = 1e-9  # k / n * n may fall short of k; products of other fractions are 1 / n and more from whole


@allocator("local")
@dataclass(frozen=True)
class Local(Bounded):
    """Remove floor(fraction * size) units of every group, the smallest fraction below 1 that meets the budget.

    `uniform` rounds down what is kept, and this what goes: small groups stay whole for longer. A residual block stays.
    """

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """The plan; within a group the highest scores stay."""
        if budget is None:
            raise BadBudget("the local allocator needs a budget, such as Budget(macs=0.5); Uniform(keep=0.5) does not")
        steps, widths = _fractions(graph, self.choices(graph, cost))
        return Plan.keeping(graph, highest(graph, scores, widths(least_removal(steps, widths, cost, budget))))


def _fractions(graph: Graph, choices: Choices) -> tuple[int, Callable[[int], dict[str, int]]]:
    """The number of the largest fraction that may go, counted from none, and the widths at each."""
    names, sizes = [g.name for g in graph.groups], np.array([g.size for g in graph.groups])
    # Widths only change where fraction * size is whole, so these are all the fractions there are.
    parts = [np.arange(1, n) / n for n in np.unique(sizes)]
    fractions = np.unique(np.concatenate([np.zeros(1), *parts]))

    def widths(step: int) -> dict[str, int]:
        left = sizes - np.floor(fractions[step] * sizes + ROUNDING).astype(np.int64)
        return {name: choices.down(name, int(width)) for name, width in zip(names, left, strict=True)}

    return fractions.size - 1, widths
