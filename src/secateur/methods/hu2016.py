"""Network trimming. Hu, Peng, Tai, Tang, "Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient
Deep Architectures", 2016 (1607.03250).

Claim: units whose average percentage of zeros (APoZ) is more than a standard deviation above the mean of their layer
can go, and a network that is trained again from the weights left, and trimmed again, loses no accuracy. The data says
how many go, so that a budget is ignored. A plan is one such step. The next begins when the smaller network has been
trained: trace that, and ask for a plan of it, until one keeps all units or accuracy falls. The paper starts with the
few layers whose mean APoZ is high: raise `above`, or freeze the others. The deviation is that of all units of a layer
(divided by n); a group that must keep some number of units keeps those with the fewest zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..cost.budget import Budget
from ..criteria.apoz import APoZ
from ..errors import BadOption
from ..evidence.base import Batches, Loss
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..prune import collect
from .base import Method, method

EPS = 1e-12  # of a fraction of zeros: the mean of n equal ones is off by rounding


@method("hu2016")
@dataclass(frozen=True)
class NetworkTrimming(Method):
    """Units whose zeros are some deviations above the mean of their layer go; a budget is ignored, the data decides."""

    deviations: float = 1.0
    above: float = 0.0  # layers whose mean APoZ is lower stay whole
    paper = "Hu et al., 2016 (1607.03250)"
    criterion = APoZ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.deviations < float("inf"):
            raise BadOption(f'method "hu2016": deviations={self.deviations!r}: give a number of them, 0 or more')
        if not 0 <= self.above <= 1:
            raise BadOption(f'method "hu2016": above={self.above!r}: give a mean fraction of zeros, from 0 to 1')

    def plan(
        self,
        graph: Graph,
        budget: Budget | None = None,
        *,
        batches: Batches | None = None,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> Plan:
        """One step of trimming, of a plan that may keep all units. Raises `NeedsData`, `BadModel` as APoZ does."""
        evidence = collect(graph, self.criterion, batches=batches, loss=loss, seed=seed)
        kept = {}
        for group in graph.groups:
            zeros = 1 - self.criterion.score(group, evidence)
            stay = max(self.staying(zeros), group.least)
            kept[group.name] = sorted(torch.argsort(zeros, stable=True)[:stay].tolist())
        return Plan.keeping(graph, kept)

    def staying(self, zeros: Tensor) -> int:
        """How many units stay, those with the fewest zeros, by the (units,) APoZ of a layer; at least one."""
        mean, deviation = zeros.mean(), zeros.std(unbiased=False)
        if mean < self.above:
            return len(zeros)
        return int((zeros <= mean + self.deviations * deviation + EPS).sum())
