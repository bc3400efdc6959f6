"""L1 filter pruning, greedy. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017 (1608.08710), sec. 3.3.

Claim: when several layers are pruned at once, filters should be ranked by the sums over those inputs that are still
there, layer by layer from the first to the last; the independent ranking (method `l1`) counts inputs that go as well.
Departure: the paper sets a ratio for each stage by hand; here widths are those that the independent scores and one
fraction for every group give, and the greedy sums choose which units fill them. Layers count in the order in which
they run. A residual stream is chosen at its first layer, when what its later layers read is still whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..allocation.base import Allocator
from ..allocation.uniform import Uniform
from ..cost.budget import Budget
from ..criteria.l1 import L1
from ..evidence.base import Batches, Evidence, Loss
from ..groups.graph import Graph
from ..groups.group import Group, Units
from ..groups.plan import Plan
from .base import Method, method
from .order import in_order


@method("l1-greedy")
@dataclass(frozen=True)
class L1Greedy(Method):
    """Filters of smallest L1 norm over the inputs that are left, first layer to last (see `Uniform` for `per_macs`)."""

    per_macs: float = 0.0
    paper = "Li et al., ICLR 2017 (1608.08710), sec. 3.3"
    criterion = L1()

    @property
    def allocator(self) -> Allocator:
        """The same fraction everywhere."""
        return Uniform(per_macs=self.per_macs)

    def plan(
        self,
        graph: Graph,
        budget: Budget | None,
        *,
        batches: Batches | None = None,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> Plan:
        """The widths of the independent plan, filled group by group. Raises what `score` and `allocate` raise."""
        widths = super().plan(graph, budget, batches=batches, loss=loss, seed=seed).widths(graph)
        left, kept = _Left(graph.model), {}
        for group in in_order(graph):
            order = self.criterion.score(group, left).argsort(descending=True, stable=True)
            top, gone = order.tensor_split([widths[group.name]])
            kept[group.name] = sorted(top.tolist())
            left.drop(group, gone.numpy())
        return Plan.keeping(graph, kept)


@dataclass
class _Left(Evidence):
    """Weights whose inputs from removed units are zero, so that no sum counts them."""

    held: dict[str, Tensor] = field(default_factory=dict)

    def weight(self, name: str) -> Tensor:
        return self.held[name] if name in self.held else super().weight(name)

    def drop(self, group: Group, units: Units) -> None:
        """Zero what reads these units."""
        parameters = dict(self.model.named_parameters())
        for member in group.members:
            if member.role == "in" and member.tensor in parameters and units.size:
                weight = self.weight(member.tensor).clone()
                at = torch.from_numpy(member.index[units].reshape(-1)).to(weight.device)
                self.held[member.tensor] = weight.index_fill_(member.axis, at, 0.0)
