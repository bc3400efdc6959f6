"""Uniform: the same fraction of every group, or fractions that favour cheap units in fixed proportion."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import allocator, least_removal
from .choices import Bounded, Choices, highest, per_group


@allocator("uniform")
@dataclass(frozen=True)
class Uniform(Bounded):
    """Keep floor(keep * size) units of every group, and at least as many as it must keep.

    That is one; of experts, as many as a token is given to; of a residual block, the block.

    Without `keep`, the largest fraction that meets the budget. `per_macs` > 0 makes each group's fraction proportional
    to (MACs that removing one of its units saves) ** -per_macs: layers of a stage stay alike, early stages give more.

    `keep` may be {group name or glob: fraction}; groups that it does not name stay whole.
    """

    keep: float | dict[str, float] | None = None
    per_macs: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
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
        choices = self.choices(graph, cost)
        if self.keep is not None:
            # As written: 0.29 * 100 is 28.999... in floats.
            fractions = {g: Fraction(str(f)) for g, f in per_group("keep", self.keep, graph, 1.0).items()}
            widths = _widths(graph, fractions, choices)
        elif budget is None:
            raise BadBudget("the uniform allocator needs a budget or a fraction: Uniform(keep=0.5)")
        else:
            widths = self._meeting(graph, cost, budget, choices)
        return Plan.keeping(graph, highest(graph, scores, widths))

    def _meeting(self, graph: Graph, cost: CostModel, budget: Budget, choices: Choices) -> dict[str, int]:
        """The widths of the largest fraction that meets the budget."""
        weights = self._weights(graph, cost)
        # Widths only change where fraction * weight * size is whole, so these are all the fractions there are.
        whole = max(1 / w for w in weights.values())
        kinds = {(g.size, weights[g.name]) for g in graph.groups}
        falling = {Fraction(k, size) / weight for size, weight in kinds for k in range(1, size + 1)}
        tried = [whole, *sorted((f for f in falling if f < whole), reverse=True)]

        def widths(i: int) -> dict[str, int]:
            return _widths(graph, {g: tried[i] * w for g, w in weights.items()}, choices)

        return widths(least_removal(len(tried) - 1, widths, cost, budget))

    def _weights(self, graph: Graph, cost: CostModel) -> dict[str, Fraction]:
        """What each group's fraction is multiplied with; exact, so that a step always lands on a whole width."""
        if not self.per_macs:
            return {g.name: Fraction(1) for g in graph.groups}
        saving = cost.per_unit("macs")
        return {g.name: Fraction(max(saving[g.name], 1.0) ** -self.per_macs) for g in graph.groups}


def _widths(graph: Graph, fractions: dict[str, Fraction], choices: Choices) -> dict[str, int]:
    return {g.name: choices.down(g.name, max(1, min(g.size, int(fractions[g.name] * g.size)))) for g in graph.groups}
