"""Uniform: the same fraction of every group, or fractions that favour cheap units in fixed proportion."""

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
from .base import Allocator, allocator, check_power, least_removal, multiples, per_group, rounded


@allocator("uniform")
@dataclass(frozen=True)
class Uniform(Allocator):
    """Keep floor(keep * size) units of every group, and at least as many as it must keep.

    That is one; of experts, as many as a token is given to; of a residual block, the block.

    Without `keep`, the largest fraction that meets the budget. `per_macs` > 0 makes each group's fraction proportional
    to (MACs that removing one of its units saves) ** -per_macs: layers of a stage stay alike, early stages give more.

    `keep` may be {group name or glob: fraction}; groups that it does not name stay whole. `round_to`, a number or
    {group name or glob: number}: widths are brought down to multiples of it.
    """

    keep: float | dict[str, float] | None = None
    per_macs: float = 0.0
    round_to: int | dict[str, int] = 1

    def __post_init__(self) -> None:
        check_power(self.per_macs)
        given = self.keep.values() if isinstance(self.keep, dict) else () if self.keep is None else (self.keep,)
        if not all(0 < fraction <= 1 for fraction in given):
            raise BadBudget(f"keep={self.keep!r} is not a fraction to keep; give 0 < keep <= 1")
        if self.keep is not None and self.per_macs:
            raise BadBudget(
                f"keep={self.keep!r} with per_macs={self.per_macs!r}: give one of them, and a budget with it"
            )

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """The plan; within a group the highest scores stay."""
        if self.keep is not None and budget is not None:
            raise BadBudget(f"Uniform(keep={self.keep!r}) and budget {budget}: give one of them")
        steps = multiples(graph, self.round_to)
        if self.keep is not None:
            # As written: 0.29 * 100 is 28.999... in floats.
            fractions = {g: Fraction(str(f)) for g, f in per_group("keep", self.keep, graph, 1.0).items()}
            widths = _widths(graph, fractions, steps)
        elif budget is None:
            raise BadBudget("the uniform allocator needs a budget or a fraction: Uniform(keep=0.5)")
        else:
            widths = self._meeting(graph, cost, budget, steps)
        kept = {}
        for group in graph.groups:
            falling_scores = np.argsort(-scores[group.name].numpy(), kind="stable")
            kept[group.name] = np.sort(falling_scores[: widths[group.name]])
        return Plan.keeping(graph, kept)

    def _meeting(self, graph: Graph, cost: CostModel, budget: Budget, steps: dict[str, int]) -> dict[str, int]:
        """The widths of the largest fraction that meets the budget."""
        weights = self._weights(graph, cost)
        # Widths only change where fraction * weight * size is whole, so these are all the fractions there are.
        whole = max(1 / w for w in weights.values())
        falling = {Fraction(k, g.size) / weights[g.name] for g in graph.groups for k in range(1, g.size + 1)}
        tried = [whole, *sorted((f for f in falling if f < whole), reverse=True)]

        def widths(i: int) -> dict[str, int]:
            return _widths(graph, {g: tried[i] * w for g, w in weights.items()}, steps)

        return widths(least_removal(len(tried) - 1, widths, cost, budget))

    def _weights(self, graph: Graph, cost: CostModel) -> dict[str, Fraction]:
        """What each group's fraction is multiplied with; exact, so that a step always lands on a whole width."""
        if not self.per_macs:
            return {g.name: Fraction(1) for g in graph.groups}
        saving = cost.per_unit("macs")
        return {g.name: Fraction(max(saving[g.name], 1.0) ** -self.per_macs) for g in graph.groups}


def _widths(graph: Graph, fractions: dict[str, Fraction], steps: dict[str, int]) -> dict[str, int]:
    found = {}
    for g in graph.groups:
        step, wanted = steps[g.name], min(g.size, int(fractions[g.name] * g.size))
        fewest = min(g.size, -(-g.least // step) * step)  # of what must stay, the first multiple
        found[g.name] = max(rounded(max(1, wanted), g.size, step), fewest)
    return found
