"""Quickest: of plans that use a budget up, the one that is predicted to run fastest on this machine. Ours.

At equal MACs networks differ in speed by a factor of two: widths that do not fill the hardware's registers, and layers
whose memory costs more than their arithmetic. A knapsack over quick widths under a limit of latency, too, moves units
from slow layers to quick ones; the limit is lowered as long as the budget is still used up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget, BudgetUnreachable
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import allocator
from .choices import Bounded
from .knapsack import Knapsack
from .ranked import Ranked
from .uniform import Uniform

STEPS = 5  # halvings of the range of latency


@allocator("quickest")
@dataclass(frozen=True)
class Quickest(Bounded):
    """Of plans that meet the budget and leave at most `spare` of its first field unused, the least predicted latency.

    Plans come from the knapsack, one ranking and one fraction, over widths that measured latency shows to be worth
    having. `powers`: scores count per unit times its MACs to each of these; 0 goes by importance alone, 1 nearly by
    MACs per millisecond alone. Latency is measured on the budget's engine where it is not given.
    """

    nests: ClassVar[bool] = False
    round_to: int | Literal["auto"] | dict[str, int] = "auto"
    spare: float = 0.03
    powers: tuple[float, ...] = (0.0, 0.5, 0.9, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.spare < 1:
            raise BadBudget(
                f"spare={self.spare!r}: give the fraction of the budget that may be left, from 0 to below 1"
            )

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """The plan. Raises `BadBudget` without a budget or without latency, `NothingToDo`, `BudgetUnreachable`."""
        if budget is None or not budget.fields.keys() - {"latency_ms"}:
            raise BadBudget(
                f"budget {budget}: the quickest allocator needs one beside latency, such as Budget(macs=0.5)"
            )
        dense = cost.dense()
        if dense.latency_ms is None:
            raise BadBudget("the quickest allocator goes by latency, and none is given: see measure_latency")
        field, limit = next((n, v) for n, v in budget.limits(dense).items() if n != "latency_ms")
        plans = list(self._plans(graph, scores, cost, budget, (field, (1 - self.spare) * limit)))
        if not plans:  # no option is in reach: let one of them say what is
            return Knapsack(**self._bounds()).allocate(graph, scores, cost, budget)
        told = [cost.at(plan.widths(graph)) for plan in plans]
        using = [i for i, c in enumerate(told) if getattr(c, field) >= (1 - self.spare) * limit]
        return plans[min(using or range(len(plans)), key=lambda i: told[i].latency_ms or 0.0)]

    def _plans(
        self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget, least: tuple[str, float]
    ) -> Iterator[Plan]:
        """All that are tried."""
        for plain in (Ranked(**self._bounds()), Uniform(**self._bounds())):
            if (plan := _tried(plain, graph, scores, cost, budget)) is not None:
                yield plan
        per, dense = cost.per_unit("macs"), cost.dense()
        for power in self.powers:
            weighted = {g.name: scores[g.name] * max(per[g.name], 1.0) ** power for g in graph.groups}
            low, high = 0.0, min(1.0, budget.limits(dense).get("latency_ms", 1e30) / (dense.latency_ms or 1.0))
            for _ in range(STEPS):
                middle = (low + high) / 2
                plan = _tried(Knapsack(**self._bounds()), graph, weighted, cost, replace(budget, latency_ms=middle))
                if plan is not None:
                    yield plan
                used = plan is not None and getattr(cost.at(plan.widths(graph)), least[0]) >= least[1]
                low, high = (low, middle) if used else (middle, high)

    def _bounds(self) -> dict[str, Any]:
        return {"min_keep": self.min_keep, "max_keep": self.max_keep, "round_to": self.round_to}


def _tried(chosen: Bounded, graph: Graph, scores: Scores, cost: CostModel, budget: Budget) -> Plan | None:
    """The plan of an allocator, if what is asked is in its reach."""
    try:
        return chosen.allocate(graph, scores, cost, budget)
    except BudgetUnreachable:
        return None
