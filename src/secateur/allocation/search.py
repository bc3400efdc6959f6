"""Random search over widths, and Optuna's samplers, which learn from what was tried.

Random widths are the baseline that every search must beat: Li and Talwalkar, "Random Search and Reproducibility for
Neural Architecture Search", UAI 2019 (1902.07638); for pruning, Li et al., "Revisiting Random Channel Pruning for
Neural Network Compression", CVPR 2022 (2205.05676).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadBudget, BadOption
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import allocator, least_removal
from .choices import Bounded, Choices, highest
from .objective import Objective, Tried
from .samplers import Sampler, drawn

STEPS = 1 << 20  # of what goes: fine enough for single units
SLOWEST = 0.01  # of the fastest: how slowly a group may go


@allocator("random")
@dataclass(frozen=True)
class RandomSearch(Bounded):
    """Of `trials` random widths that just meet the budget, the best by `objective`.

    For each trial every group draws how fast it goes, and all go on at these speeds until the budget is met.
    `objective`: of a plan, lower is better, such as `experiments.masked.masked_loss(graph, batches)`; unless given,
    minus the sum of scores that are kept. `sampler`: "random", or Optuna's "tpe" or "cmaes" (extra `search`), which
    draw where earlier trials were good. The same seed, the same plan.
    """

    nests: ClassVar[bool] = False
    trials: int = 100
    seed: int = 0
    objective: Objective | None = None
    sampler: Sampler = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trials < 1:
            raise BadOption(f"trials={self.trials!r}: give at least 1")

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """The best plan; within a group the highest scores stay.

        Raises `MissingDependency` where the sampler's library is not installed.
        """
        if budget is None:
            raise BadBudget("the random allocator needs a budget, such as Budget(macs=0.5)")
        choices = self.choices(graph, cost)
        objective = self.objective

        def plan(widths: dict[str, int]) -> Plan:
            return Plan.keeping(graph, highest(graph, scores, widths))

        tried = Tried(_kept(graph, scores) if objective is None else lambda widths: objective(plan(widths)))

        def trial(speeds: NDArray[np.float64]) -> float:
            widths = _going(graph, choices, np.maximum(speeds, SLOWEST))
            found = widths(least_removal(STEPS, widths, cost, budget))
            return tried(tuple(found.values()), found)

        drawn(self.sampler, trial, len(graph.groups), self.trials, self.seed)
        assert tried.best is not None
        return plan(tried.best)


def _going(graph: Graph, choices: Choices, speeds: NDArray[np.float64]) -> Callable[[int], dict[str, int]]:
    """The widths at each step: of a group, speed times as much has gone as of one of speed 1; at the last step all."""
    sizes, names = np.array([g.size for g in graph.groups]), [g.name for g in graph.groups]
    whole = 1 / speeds.min() if speeds.size else 1.0

    def widths(step: int) -> dict[str, int]:
        gone = np.floor(sizes * np.minimum(1.0, whole * speeds * step / STEPS) + 1e-9).astype(np.int64)
        return {name: choices.down(name, int(n)) for name, n in zip(names, sizes - gone, strict=True)}

    return widths


def _kept(graph: Graph, scores: Scores) -> Callable[[dict[str, int]], float]:
    """Minus the sum of the scores that widths keep."""
    falling = {g.name: np.append(0.0, np.cumsum(np.sort(scores[g.name].numpy())[::-1])) for g in graph.groups}
    return lambda widths: -sum(float(falling[name][width]) for name, width in widths.items())
