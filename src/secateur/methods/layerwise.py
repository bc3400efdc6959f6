"""Layer by layer, as ThiNet and He et al. prune: each group is chosen on the network as it is by then, cut, refitted.

`prune(..., repair="reconstruct")` chooses all groups from the dense network, cuts once and refits then. Here what is
read of a group has passed through all that was cut and refitted before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from ..allocation.base import Allocator
from ..cost.budget import Budget
from ..criteria.base import CRITERIA, Criterion
from ..errors import NeedsData
from ..evidence.base import Batches, Loss
from ..evidence.readers import readers
from ..graph.example import Example
from ..groups.graph import Graph, trace
from ..groups.group import Group
from ..groups.plan import Plan
from ..prune import Pruned, allocate, choose, collect, cut, score
from ..surgery.reconstruct import reconstruct


def layerwise(
    model: nn.Module,
    example: Example,
    batches: Batches,
    *,
    criterion: str | Criterion = "lasso",
    budget: Budget | None = None,
    allocator: str | Allocator = "uniform",
    frozen: Iterable[str | nn.Parameter] = (),
    loss: Loss | None = None,
    seed: int = 0,
) -> Pruned:
    """Prune one group after another, in the order they are read, refitting the readers of each before the next.

    Widths are those that the allocator gives for the dense network's scores. Each group's units are then chosen by the
    criterion from what the network reads by then; the layers that read them are refitted to what they gave in the dense
    network. A group that several layers read is chosen when the first of them is met. The caller's model is untouched.
    The whole plan is cut from the dense network and verified at the end; refitted weights come after that check.

    Raises `NeedsData` without batches, and what `trace`, `score`, `allocate` and `cut` raise.
    """
    held = list(batches)
    if not held:
        raise NeedsData("layer by layer, each choice and each refit reads batches, and none were given")
    chosen = CRITERIA.make(criterion)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        graph = trace(model, example, frozen=frozen)
        scores = score(graph, chosen, batches=held, loss=loss, seed=seed)
        widths = allocate(graph, scores, budget, allocator=allocator).widths(graph)
        plan, current = Plan(), model
        for group in _in_order(graph):
            if widths[group.name] < group.size:
                now = trace(current, example)
                step = _choice(replace(now, groups=(now[group.name],)), chosen, widths[group.name], held, loss, seed)
                plan, current = plan.then(step), cut(now, step, verify="off").model
                layers = {m.tensor for m in group.members if m.reads}
                reconstruct(graph, plan, current, [x for x, _ in held], seed=seed, only=layers)
        pruned = cut(graph, plan)
    pruned.model.load_state_dict(current.state_dict())
    return pruned


def _in_order(graph: Graph) -> list[Group]:
    """The groups, in the order in which the first layer that reads each of them runs."""
    first: dict[str, int] = {}
    for number, reader in sorted(readers(graph).items()):
        for name in reader.groups:
            first.setdefault(name, number)
    return sorted(graph.groups, key=lambda g: first.get(g.name, 0))


def _choice(one: Graph, criterion: Criterion, width: int, batches: Batches, loss: Loss | None, seed: int) -> Plan:
    """The plan that keeps so many units of the only group of a graph."""
    evidence = collect(one, criterion, batches=batches, loss=loss, seed=seed)
    ((name, values),) = score(one, criterion, evidence=evidence).items()
    best = torch.argsort(values, descending=True, stable=True)[:width]
    return choose(one, Plan.keeping(one, {name: sorted(best.tolist())}), criterion, evidence)
