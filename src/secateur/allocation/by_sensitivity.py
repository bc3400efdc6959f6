"""Sensitivity-greedy: groups give as much as what was measured on each alone allows, until the budget is met.

As in AIMET's automatic choice of ratios (Qualcomm): each group gets the smallest of the measured ratios that costs no
more than a tolerated drop, the same for all, and the tolerance is the least that meets the budget. Departures: a
ratio counts only if no larger one costs more than is tolerated; "greedy" instead goes step by step, as ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget, BudgetUnreachable, NeedsData
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import allocator, least_removal, unreachable
from .choices import Bounded, Choices, highest
from .curves import Sensitivity, width
from .greedy import Steps, stepwise


@allocator("sensitivity")
@dataclass(frozen=True)
class BySensitivity(Bounded):
    """Keep the ratios of least drop, as measured on each group alone, that meet the budget.

    `file`: what `secateur sensitivity --out` or `sensitivity(..., path=)` wrote for this model; or the `table` itself.
    `metric`: whose drop counts, "accuracy", "loss" or one of yours. `by`: "drop", the least drop tolerated of each
    group alone, or "greedy", one step after another, each the one of the least further drop for what it saves (of the
    budget's fields, over those of the dense model). No group goes below its smallest ratio measured. Widths between
    are not measured: where `round_to` brings one down, the drop is that of the ratio above.
    """

    file: str | None = None
    table: Sensitivity | None = None
    metric: str = "accuracy"
    by: Literal["drop", "greedy"] = "drop"

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """The plan; within a group the highest scores stay.

        Raises `NeedsData` without a file or a table, what `Sensitivity.load` raises, `UnknownName` for the metric.
        """
        if budget is None:
            raise BadBudget("the sensitivity allocator needs a budget, such as Budget(macs=0.5)")
        measured, choices = self._measured(graph), self.choices(graph, cost)
        find = self._tolerating if self.by == "drop" else self._stepping
        return Plan.keeping(graph, highest(graph, scores, find(graph, measured, choices, cost, budget)))

    def _measured(self, graph: Graph) -> Sensitivity:
        if self.table is not None:
            return self.table
        if self.file is None:
            raise NeedsData(
                "the sensitivity allocator reads what was measured: give file=, written by `secateur sensitivity --out "
                "DIR` as DIR/sensitivity.safetensors, or table="
            )
        return Sensitivity.load(self.file, graph)

    def _tolerating(
        self, graph: Graph, measured: Sensitivity, choices: Choices, cost: CostModel, budget: Budget
    ) -> dict[str, int]:
        tolerated = measured.tolerances(self.metric)

        def widths(step: int) -> dict[str, int]:
            kept = measured.widths(graph, measured.keep_for(tolerated[step], self.metric))
            return {name: choices.down(name, n) for name, n in kept.items()}

        return widths(least_removal(len(tolerated) - 1, widths, cost, budget))

    def _stepping(
        self, graph: Graph, measured: Sensitivity, choices: Choices, cost: CostModel, budget: Budget
    ) -> dict[str, int]:
        steps, limits = self._steps(graph, measured, choices), budget.limits(cost.dense())
        found = stepwise(steps, choices.most(), cost, limits)
        if found is None:
            least = choices.most() | {name: held[-1][0] for name, held in steps.items()}
            raise BudgetUnreachable(unreachable(budget, limits, cost.at(least), cost.dense()))
        return found

    def _steps(self, graph: Graph, measured: Sensitivity, choices: Choices) -> Steps:
        found: dict[str, list[tuple[int, float]]] = {}
        for name, drops in measured.drops(self.metric).items():
            if name not in choices.widths:
                continue
            worst = np.maximum.accumulate(np.array(drops)[::-1])  # a ratio costs what any larger one does
            kept = [choices.down(name, width(r, graph[name].size)) for r in measured.ratios[::-1]]
            found[name] = [(choices.most()[name], min(0.0, float(worst[0])))]
            for n, drop in zip(kept, worst.tolist(), strict=True):
                if n < found[name][-1][0]:
                    found[name].append((n, drop))
        return found
