"""What a search is after: the plan of the least objective."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import BadOption
from ..groups.graph import Graph
from ..groups.plan import Plan

Objective = Callable[[Plan], float]  # of a plan, lower is better: such as the loss of the masked model


class Tried:
    """Plans of one search, each measured once; within a group they keep the highest scores, so widths tell them apart.

    `best` is the plan of the least objective; of equal ones the earliest.
    """

    def __init__(self, objective: Objective, graph: Graph) -> None:
        self._objective, self._graph = objective, graph
        self._seen: dict[tuple[int, ...], float] = {}
        self._least = math.inf
        self.best: Plan | None = None

    def __call__(self, plan: Plan) -> float:
        """The objective of a plan. Raises `BadOption` where that is no number."""
        widths = tuple(plan.widths(self._graph).values())
        if widths not in self._seen:
            self._seen[widths] = found = float(self._objective(plan))
            if math.isnan(found):
                raise BadOption(f"objective gives {found} for widths {widths}; give a number, lower is better")
            if self.best is None or found < self._least:
                self.best, self._least = plan, found
        return self._seen[widths]
