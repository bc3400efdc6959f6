"""The contract of a criterion."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..criteria.base import CRITERIA, Criterion
from ..errors import NeedsData
from ..evidence.base import COLLECTORS, from_data
from ..evidence.collect import collect
from ..groups.graph import Graph, trace
from ..groups.group import WIDTHS
from ..groups.scores import Scores
from ..prune import score
from .contract import frozen_dataclass, law, on_some, raises, untouched
from .networks import Given, Network, deep


def check_criterion(criterion: str | Criterion, *, network: Given | None = None) -> None:
    """Scores are (units,), finite, float64; permuted units have permuted scores (law 5); the same seed gives the same
    scores, and model, mode, `.grad` and RNG are untouched (law 10); `NeedsData` where data is needed (law 11).

    Law 5 does not bind a criterion with empty `needs`: it reads nothing that could be permuted.
    """
    chosen = CRITERIA.make(criterion)
    frozen_dataclass(chosen)
    known = {"weights", *COLLECTORS.all()}
    law(chosen.needs <= known, "contract", chosen, f"needs {set(chosen.needs)}; known: {sorted(known)}")

    whole_blocks = chosen.units == "depth"
    kinds = ("depth",) if whole_blocks else WIDTHS

    def on(net: Network) -> None:
        graph = trace(net.model, net.example, kinds=kinds)
        with untouched(chosen, net.model):
            scores, again = (score(graph, chosen, batches=net.batches) for _ in range(2))
            _well_formed(chosen, graph, net)
        same = all(torch.equal(scores[name], again[name]) for name in scores)
        law(same, "law 10", chosen, f"gives other scores for the same seed on {net.name}")
        if chosen.needs and not whole_blocks:  # a block has no order
            _permutes(chosen, graph, net, scores)
        if from_data(chosen.needs):
            raises(NeedsData, lambda: score(graph, chosen), chosen, "scored without data")

    on_some(chosen, network or (deep() if whole_blocks else None), on)


def _well_formed(criterion: Criterion, graph: Graph, net: Network) -> None:
    evidence = collect(graph, criterion.needs, batches=net.batches)
    for group in graph.groups:
        values, at = criterion.score(group, evidence), f"in group {group.name!r} of {net.name}"
        fits = values.shape == (group.size,) and values.dtype == torch.float64
        found = f"gives {values.dtype} {tuple(values.shape)}, not torch.float64 ({group.size},) {at}"
        law(fits, "contract", criterion, found)
        law(bool(torch.isfinite(values).all()), "contract", criterion, f"gives a score that is not finite {at}")


def _permutes(criterion: Criterion, graph: Graph, net: Network, scores: Scores) -> None:
    other, orders = permuted(graph)
    found = score(trace(other, net.example), criterion, batches=net.batches)
    for name, order in orders.items():
        expected = scores[name][order]
        close = torch.allclose(found[name], expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))
        law(close, "law 5", criterion, f"does not permute its scores with the units of group {name!r} of {net.name}")


def permuted(graph: Graph, seed: int = 0) -> tuple[nn.Module, dict[str, Tensor]]:
    """A copy of the graph's model, the same function, with the units of every group in another order.

    Also gives the order: group name -> (units,), where unit u of the copy is unit order[u] of the original.
    """
    model, generator = copy.deepcopy(graph.model), torch.Generator().manual_seed(seed)
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    orders = {g.name: torch.randperm(g.size, generator=generator) for g in graph.groups}
    for group in graph.groups:
        for member in group.members:
            index, tensor = torch.from_numpy(member.index), held[member.tensor].detach()
            taken = tensor.index_select(member.axis, index[orders[group.name]].reshape(-1))
            tensor.index_copy_(member.axis, index.reshape(-1), taken)
    return model, orders
