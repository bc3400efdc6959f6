"""Merge: units that go leave their work to units that stay, in the weights that read them.

Where unit j gives c times what unit i gives, the layers that read both lose nothing when W[:, i] + c * W[:, j] stands
for W[:, i] and W[:, j] goes. Srinivas & Babu, "Data-free parameter pruning for Deep Neural Networks", BMVC 2015
(1507.06149).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..groups.graph import Graph
from ..groups.group import Member
from ..groups.plan import Merge, Plan


def merged(graph: Graph, plan: Plan) -> Graph:
    """The graph of a model whose reading weights are merged and nothing is cut; all else it shares with the original.

    Whether the merges mean anything is not asked here; `check_merges` does.
    """
    weights = merged_weights(graph, plan)
    return replace(graph, model=with_tensors(graph.model, weights)) if weights else graph


def with_tensors(model: nn.Module, changed: Mapping[str, Tensor]) -> nn.Module:
    """A copy that holds these tensors, by name, and shares all others."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    memo: dict[int, Any] = {id(t): t for t in named.values()}
    for name, tensor in changed.items():
        own = named[name]
        if isinstance(own, nn.Parameter):
            made = nn.Parameter(tensor, requires_grad=own.requires_grad)
            made.__dict__.update(own.__dict__)
            memo[id(own)] = made
        else:
            memo[id(own)] = tensor
    return copy.deepcopy(model, memo)


@torch.no_grad()
def merged_weights(graph: Graph, plan: Plan) -> dict[str, Tensor]:
    """Each weight that reads merged units, whole, as it is after: computed in float64 and rounded once."""
    held = {**dict(graph.model.named_parameters()), **dict(graph.model.named_buffers())}
    found: dict[str, Tensor] = {}
    for name, merge in plan.merges.items():
        for member in graph[name].members:
            if member.reads:
                weight = found.get(member.tensor)
                weight = held[member.tensor].detach().double() if weight is None else weight
                found[member.tensor] = _added(weight, member, merge)
    return {name: weight.to(held[name].dtype) for name, weight in found.items()}


def _added(weight: Tensor, member: Member, merge: Merge) -> Tensor:
    """W[:, into] + factor * W[:, unit], of every position that a unit holds."""
    gone, into = (torch.from_numpy(member.index[list(u)].reshape(-1)) for u in (merge.units, merge.into))
    factors = torch.tensor(merge.factors, dtype=torch.float64).repeat_interleave(member.index.shape[1])
    shape = [1] * weight.dim()
    shape[member.axis] = -1
    taken = weight.index_select(member.axis, gone.to(weight.device)) * factors.reshape(shape).to(weight.device)
    return weight.index_add(member.axis, into.to(weight.device), taken)
