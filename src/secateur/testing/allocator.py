"""The contract of an allocator."""

from __future__ import annotations

from functools import partial

import torch

from ..allocation.base import ALLOCATORS, Allocator
from ..cost.budget import Budget
from ..cost.cost import CostModel
from ..errors import BudgetUnreachable, NothingToDo
from ..groups.graph import Graph, trace
from ..groups.scores import Scores
from ..prune import allocate
from .contract import fits, frozen_dataclass, law, meets, on_some, raises, untouched
from .networks import Given, Network


def check_allocator(allocator: str | Allocator, *, network: Given | None = None) -> None:
    """Budgets are met (law 6), frozen groups stay whole and every group keeps a unit; the same scores give the same
    plan and stay as they were (law 10); `NothingToDo` and `BudgetUnreachable` where they apply (law 11).
    """
    chosen = ALLOCATORS.make(allocator)
    frozen_dataclass(chosen)

    def on(net: Network) -> None:
        whole = trace(net.model, net.example)
        part = trace(net.model, net.example, frozen=[whole.groups[0].name])
        _allocates(chosen, whole, Budget(macs=0.6), net)
        _allocates(chosen, whole, Budget(params=0.5, macs=0.9), net)
        if part.groups:
            _allocates(chosen, part, Budget(bytes=0.8), net)
        above, below = Budget(macs=2.0 * CostModel(whole).dense().macs), Budget(params=1e-9)
        for kind, budget in ((NothingToDo, above), (BudgetUnreachable, below)):
            attempt = partial(allocate, whole, random_scores(whole), budget, allocator=chosen)
            raises(kind, attempt, chosen, f"allocated for {budget} on {net.name}")

    on_some(chosen, network, on)


def random_scores(graph: Graph, seed: int = 0) -> Scores:
    """Any scores do."""
    generator = torch.Generator().manual_seed(seed)
    return {g.name: torch.rand(g.size, generator=generator, dtype=torch.float64) for g in graph.groups}


def _allocates(allocator: Allocator, graph: Graph, budget: Budget, net: Network) -> None:
    scores, given = random_scores(graph), random_scores(graph)
    with untouched(allocator, graph.model):
        plan, again = (allocate(graph, scores, budget, allocator=allocator) for _ in range(2))
    law(plan == again, "law 10", allocator, f"gives another plan for the same scores on {net.name}")
    kept = scores.keys() == given.keys() and all(torch.equal(scores[n], given[n]) for n in given)
    law(kept, "law 10", allocator, "changes the scores it is given")
    fits(allocator, graph, plan, net)
    meets(allocator, graph, plan, budget, net)
