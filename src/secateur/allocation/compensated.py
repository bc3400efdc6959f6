"""LeGR. Chin, Ding, Zhang, Marculescu: "Towards Efficient Model Compression via Learned Global Ranking", CVPR 2020
(1904.12368); and its forerunner LcP, Chin, Zhang, Marculescu: "Layer-compensated Pruning" (1810.00518).

Claim: scores of different layers become comparable by one scale and one shift a layer, a * score + k, which regularised
evolution finds: the oldest of the population dies, a child is the best of a random few with some layers changed.
Population, generations, tournament, changes and their spread are those of the authors' code, whose fitness is the loss
after cutting, without steps of SGD. Departures: the identity is measured first, so that it wins ties; a share of
mutated layers is at least one, drawn without replacement; the authors' runs keep 10 % of each layer (min_keep=0.1),
here it is one unit unless you say so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BadOption, NeedsData
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..groups.scores import Scores
from .base import allocator
from .objective import Objective, Tried
from .ranked import Ranked
from .scopes import normalised

Genes = NDArray[np.float64]  # (groups, 2): the logarithm of the scale, and the shift


@allocator("legr")
@dataclass(frozen=True)
class Compensated(Ranked):
    """Rank a * score + k, one a and k for each group, found by evolution to make `objective` least.

    `objective`: of a plan, lower is better; `experiments.masked.masked_loss(graph, batches)` gives the loss of the
    masked model. It is called once for each new choice of widths, `generations` times at most. `learn`: "both", or the
    "shift" alone, as LcP. `mutate`: the share of groups that a child changes. `spread`: the standard deviation of the
    logarithm of a scale. Other options as of `ranked`; `normalise` comes first.
    """

    nests: ClassVar[bool] = False
    objective: Objective | None = None
    learn: Literal["both", "shift"] = "both"
    population: int = 64
    generations: int = 400
    tournament: int = 16
    mutate: float = 0.1
    spread: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("population", "generations", "tournament"):
            if getattr(self, name) < 1:
                raise BadOption(f"{name}={getattr(self, name)!r}: give at least 1")
        if not 0 < self.mutate <= 1 or not 0 <= self.spread < float("inf"):
            raise BadOption(f"mutate={self.mutate!r}, spread={self.spread!r}: give 0 < mutate <= 1 and spread >= 0")

    def allocate(self, graph: Graph, scores: Scores, cost: CostModel, budget: Budget | None) -> Plan:
        """The best plan that was tried. Raises `NeedsData` without an objective, and what `Ranked` raises."""
        if self.objective is None:
            raise NeedsData(
                "the legr allocator learns from data: give Compensated(objective=masked_loss(graph, batches)), with "
                "masked_loss of secateur.experiments.masked, or any other number of a plan, lower is better"
            )
        tried, scores = Tried(self.objective), normalised(graph, scores, self.normalise, self.by)
        same = {f.name: getattr(self, f.name) for f in fields(Ranked) if f.name not in ("normalise", "by")}
        ranked = Ranked(**same)
        deviations = np.array([scores[g.name].std(correction=0).item() for g in graph.groups])
        rng, alive = np.random.default_rng(self.seed), deque[tuple[float, Genes]](maxlen=self.population)
        for turn in range(self.generations):
            # 1 at first, so that changes become smaller; 0.2 at the end.
            genes = self._next(alive, deviations, 1 - turn / (1.25 * self.generations), rng)
            plan = ranked.allocate(graph, compensated(graph, scores, genes), cost, budget)
            found = tried(tuple(plan.widths(graph).values()), plan)
            alive.append((found, genes))  # the oldest dies
        assert tried.best is not None
        return tried.best

    def _next(
        self, alive: deque[tuple[float, Genes]], deviations: NDArray[np.float64], step: float, rng: np.random.Generator
    ) -> Genes:
        """The identity, then random ones until the population is full, then children."""
        count = deviations.size
        if not alive:
            return np.zeros((count, 2))
        changed = np.ones(count, dtype=bool)
        parent = np.zeros((count, 2))
        if len(alive) == self.population:
            rivals = rng.integers(len(alive), size=self.tournament)
            parent = alive[min(rivals, key=lambda i: alive[i][0])][1]
            chosen = rng.choice(count, max(1, int(self.mutate * count)), replace=False)
            changed = np.isin(np.arange(count), chosen)
        else:
            step = 1.0
        drawn = rng.standard_normal((count, 2)) * np.stack([np.full(count, self.spread * step), deviations], axis=1)
        drawn[:, 0] *= self.learn == "both"
        return parent + drawn * changed[:, None]


def compensated(graph: Graph, scores: Scores, genes: Genes) -> Scores:
    """a * score + k of each group."""
    affine = zip(graph.groups, torch.from_numpy(genes), strict=True)
    return {g.name: scores[g.name] * scale.exp() + shift for g, (scale, shift) in affine}
