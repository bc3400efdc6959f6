"""Neuron importance score propagation, jointly. Yu et al., "NISP: Pruning Networks using Neuron Importance Score
Propagation", CVPR 2018 (1711.05908).

Claim: all layers are pruned for one aim, the features that the classifier reads, so that what goes in one layer carries
no importance to the layers before. Layers are taken from the last to the first; a group that several layers read comes
after all that is read behind its first reader. Departures: the same fraction of every group is kept, which the budget
sets; the criterion says the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..allocation.uniform import Uniform
from ..cost.budget import Budget
from ..criteria.nisp import NISP
from ..evidence.base import Batches, Loss
from ..evidence.readers import readers
from ..evidence.surrogate import last_layer, propagate
from ..groups.graph import Graph
from ..groups.plan import Plan
from ..prune import allocate, collect, score
from .base import Method, method


@method("nisp")
@dataclass(frozen=True)
class JointNISP(Method):
    """The same fraction of every group, by importance carried back through what is left of the layers behind it."""

    norms: Literal["identity", "scaled"] = "identity"
    final: Literal["mean", "inf-fs"] = "mean"
    per_macs: float = 0.0
    paper = "Yu et al., CVPR 2018 (1711.05908)"
    criterion = NISP()

    def plan(
        self,
        graph: Graph,
        budget: Budget | None,
        *,
        batches: Batches | None = None,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> Plan:
        """From the last group to the first. Raises `NeedsData`, and `BadModel` where no linear surrogate can be run."""
        criterion = NISP(self.norms, self.final)
        evidence = collect(graph, criterion, batches=batches, loss=loss, seed=seed)
        scores = score(graph, criterion, evidence=evidence)
        widths = allocate(graph, scores, budget, allocator=Uniform(per_macs=self.per_macs)).widths(graph)
        last = last_layer(graph)
        assert last is not None  # there are scores
        responses = evidence.of(criterion.kind, str(last.weight))["responses"]
        kept: dict[str, Tensor] = {}
        for name in _from_the_last(graph):
            carried = propagate(graph, responses, norms=self.norms, kept=kept)[name]
            kept[name] = torch.argsort(carried, descending=True, stable=True)[: widths[name]].sort().values
        return Plan.keeping(graph, {name: units.tolist() for name, units in kept.items()})


def _from_the_last(graph: Graph) -> list[str]:
    """Names of groups, by the layer that reads each first, the last first."""
    first: dict[str, int] = {}
    for number, reader in sorted(readers(graph).items()):
        for name in reader.groups:
            first.setdefault(name, number)
    return sorted(first, key=lambda name: -first[name])
