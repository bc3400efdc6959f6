"""Data-free merging of neurons. Srinivas & Babu, "Data-free parameter pruning for Deep Neural Networks", BMVC 2015
(1507.06149).

Claim: neurons that compute nearly the same can be merged, one at a time, cheapest first, without data or training; up
to 85% of the parameters of a network for MNIST go, and about 35% of AlexNet's. With a budget, merges are made across
all groups, cheapest first, until it is met; without one, each group stops where the paper's rule says.

Departures: the paper merges within one layer, ours are compared across groups after division by the group's mean
saliency at the start. Any layer is merged, not only fully connected ones, and a group's rows are those of the dense
model: they do not follow the merges of the layer before. `scaled` also merges a neuron that is nearly c > 0 times
another, by the factor c, in groups that scale as ReLU does. Groups whose units cannot be merged (a layer norm sums over
them, ...) stay whole. Doubtful: of the stopping rule we know that the cut-off is the mode of a Gaussian fitted to a
histogram of saliencies; that these are those of all merges of a group in turn, and that their logarithms are fitted, is
our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..allocation.base import least_removal
from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..criteria.merging import Step, saliency_of, turns, until_cutoff
from ..criteria.merging_cost import MergingCost
from ..errors import BudgetUnreachable, SurgeryError
from ..evidence.base import Batches, Evidence, Loss
from ..groups.graph import Graph
from ..groups.plan import Keep, Merge, Plan
from ..surgery.homogeneous import homogeneous
from ..surgery.mergeable import Mergeable, mergeable
from .base import Method, method


@method("srinivas2015")
@dataclass(frozen=True)
class NeuronMerging(Method):
    """Merge the most similar neurons, one at a time: one goes, the other takes over what reads it."""

    scaled: bool = False
    paper = "Srinivas & Babu, BMVC 2015 (1507.06149)"
    criterion = MergingCost()

    def plan(
        self,
        graph: Graph,
        budget: Budget | None = None,
        *,
        batches: Batches | None = None,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> Plan:
        """The cheapest merges that meet the budget, and not one more; without a budget, those below each cut-off.

        Raises `SurgeryError` where no group can be merged, `BudgetUnreachable`, `NothingToDo`.
        """
        may = mergeable(graph, graph.groups)
        if not may.kin:
            raise SurgeryError(f"units of no group can be merged. {may.reasons()}")
        steps, scales = self._steps(graph, may)
        if budget is None:
            return _plan(graph, {name: until_cutoff(held) for name, held in steps.items()})
        names = list(steps)
        order = turns([steps[name] for name in names], [scales[name] for name in names])

        def made(step: int) -> dict[str, int]:
            return dict(zip(names, np.bincount(order[:step], minlength=len(names)).tolist(), strict=True))

        def widths(step: int) -> dict[str, int]:
            gone = made(step)
            return {g.name: g.size - gone.get(g.name, 0) for g in graph.groups}

        try:
            least = least_removal(order.size, widths, CostModel(graph), budget)
        except BudgetUnreachable as error:
            raise BudgetUnreachable(f"{error}. {may.reasons()}" if may.refused else str(error)) from error
        return _plan(graph, {name: steps[name][:n] for name, n in made(least).items()})

    def _steps(self, graph: Graph, may: Mergeable) -> tuple[dict[str, list[Step]], dict[str, float]]:
        """For each group all merges in turn, and the mean saliency of all pairs at the start."""
        evidence = Evidence(graph.model)
        free = [graph[name] for name, between in may.between.items() if not between]
        scale = homogeneous(graph, free) if self.scaled else set()
        steps, means = {}, {}
        for name, kin in may.kin.items():
            held = saliency_of(graph[name], evidence, scaled=name in scale, kin=torch.from_numpy(kin))
            pairs = held.matrix[held.matrix.isfinite()]
            means[name] = (float(pairs.mean()) if pairs.numel() else 0.0) or 1.0
            steps[name] = list(held.steps())
        return steps, means


def _plan(graph: Graph, made: Mapping[str, list[Step]]) -> Plan:
    keeps, merges = [], []
    for name, steps in made.items():
        if steps:
            gone = {step.unit for step in steps}
            keeps.append(Keep(group=name, units=tuple(u for u in range(graph[name].size) if u not in gone)))
            merges.append(Merge.chained(name, [(s.unit, s.into, s.factor) for s in steps]))
    plan = Plan(edits=(*keeps, *merges))
    plan.check(graph)
    return plan
