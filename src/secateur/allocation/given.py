"""Given: the widths that a plan file says, and no search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget, PlanError
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.plan_file import PlanFile
from ..groups.scores import Scores
from .base import Allocator, allocator
from .choices import highest


@allocator("given")
@dataclass(frozen=True)
class Given(Allocator):
    """Keep as many units of each group as a plan file says; a budget is checked, and need not be given.

    `file`: what `secateur plan` or `PlanFile.write` wrote; groups that it does not name stay whole. `units`: "scores",
    the highest scores stay, or "file", the units that the file keeps.
    """

    nests: ClassVar[bool] = False  # one plan for any budget that it meets
    file: str = "plan.json"
    units: Literal["scores", "file"] = "scores"

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """The plan. Raises `BadBudget` (says what the file reaches) for a budget that it misses, and `NothingToDo`.

        Also what `PlanFile.read` and `PlanFile.plan` raise, and `PlanError` for a file with foldings or merges.
        """
        read = PlanFile.read(self.file)
        if read.edits:
            raise PlanError(
                f"{self.file} holds {len(read.edits)} foldings or merges, which belong to its own units; apply it as "
                "it is, with `secateur apply`, or remove 'edits' from it"
            )
        plan = read.plan(graph)
        widths = plan.widths(graph)
        if budget is not None:
            self._check(budget, cost, widths)
        return plan if self.units == "file" else Plan.keeping(graph, highest(graph, scores, widths))

    def _check(self, budget: Budget, cost: CostModel, widths: dict[str, int]) -> None:
        reached = cost.at(widths)
        missed = [
            f"{field} {getattr(reached, field)}, and {limit:.6g} are allowed"
            for field, limit in budget.limits(cost.dense()).items()
            if getattr(reached, field) > limit
        ]
        if missed:
            raise BadBudget(
                f"budget {budget} is not what {self.file} meets: {'; '.join(missed)}. Edit its `keep`, or leave the "
                "budget out"
            )
