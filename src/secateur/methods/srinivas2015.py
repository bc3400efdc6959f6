"""Data-free merging of neurons. Srinivas & Babu, "Data-free parameter pruning for Deep Neural Networks", BMVC 2015
(1507.06149).

Claim: neurons that compute nearly the same can be merged, one at a time, cheapest first, without data or training, and
most of the parameters of fully connected layers go. With a budget, merges are made across all groups, cheapest first,
until it is met; without one, each group stops where the paper's rule says.

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
from numpy.typing import NDArray

from ..allocation.base import least_removal
from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..criteria.merging import Merging, Step, cutoff, saliency_of
from ..errors import BadModel, BudgetUnreachable, SurgeryError
from ..evidence.base import Batches, Evidence, Loss
from ..groups.graph import Graph
from ..groups.plan import Keep, Merge, Plan
from ..surgery.homogeneous import homogeneous
from ..surgery.mergeable import Mergeable, mergeable
from .base import Method, method

SHOWN = 3  # groups that cannot be merged which an error names


@method("srinivas2015")
@dataclass(frozen=True)
class NeuronMerging(Method):
    """Merge the most similar neurons, one at a time: one goes, the other takes over what reads it."""

    scaled: bool = False
    paper = "Srinivas & Babu, BMVC 2015 (1507.06149)"
    criterion = Merging()

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
        if any(p.is_meta for p in graph.model.parameters()):
            raise BadModel("the model is on the meta device and has no weights to compare; make the plan by hand")
        may = mergeable(graph, graph.groups)
        if not may.kin:
            raise SurgeryError(f"units of no group can be merged. {_reasons(may)}")
        steps, scales = self._steps(graph, may)
        if budget is None:
            return _plan(
                graph, {name: _below(held, cutoff([s.saliency for s in held])) for name, held in steps.items() if held}
            )
        order = _order(steps, scales)
        names = list(steps)

        def counts(step: int) -> dict[str, int]:
            return dict(zip(names, np.bincount(order[:step], minlength=len(names)).tolist(), strict=True))

        def widths(step: int) -> dict[str, int]:
            made = counts(step)
            return {g.name: g.size - made.get(g.name, 0) for g in graph.groups}

        try:
            made = counts(least_removal(order.size, widths, CostModel(graph), budget))
        except BudgetUnreachable as error:
            raise BudgetUnreachable(f"{error}. {_reasons(may)}" if may.refused else str(error)) from error
        return _plan(graph, {name: steps[name][:n] for name, n in made.items()})

    def _steps(self, graph: Graph, may: Mergeable) -> tuple[dict[str, list[Step]], dict[str, float]]:
        """For each group all merges in turn, and the mean saliency of all pairs at the start."""
        evidence = Evidence(graph.model)
        free = [graph[name] for name, between in may.between.items() if not between]
        scale = homogeneous(graph, free) if self.scaled else set()
        steps, means = {}, {}
        for name, kin in may.kin.items():
            held = saliency_of(graph[name], evidence, scaled=name in scale, kin=torch.from_numpy(kin))
            pairs = held.matrix[held.matrix.isfinite()]
            means[name] = float(pairs.mean()) if pairs.numel() else 1.0
            steps[name] = list(held.steps())
        return steps, means


def _order(steps: Mapping[str, list[Step]], scales: Mapping[str, float]) -> NDArray[np.int64]:
    """(merges,) the group number of each merge, cheapest first: always the group whose next merge is the cheapest."""
    keys, groups = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    for number, (name, held) in enumerate(steps.items()):
        # A merge waits for the dearer ones before it in its group.
        keys.append(np.maximum.accumulate([s.saliency / (scales[name] or 1.0) for s in held]) if held else keys[0])
        groups.append(np.full(len(held), number))
    group, key = np.concatenate(groups), np.concatenate(keys)
    return group[np.lexsort((group, key))]


def _below(steps: list[Step], limit: float) -> list[Step]:
    """Up to the first that costs more than the limit."""
    over = (i for i, step in enumerate(steps) if step.saliency > limit)
    return steps[: next(over, len(steps))]


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


def _reasons(may: Mergeable) -> str:
    told = [f"units of group {name!r} cannot be merged: {why}" for name, why in may.refused.items()]
    return "; ".join(told[:SHOWN]) + (
        f"; nor can those of {len(told) - SHOWN} more groups" if len(told) > SHOWN else ""
    )
