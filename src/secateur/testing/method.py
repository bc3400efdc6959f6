"""The contract of a method."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..cost.budget import Budget
from ..errors import VerificationError
from ..groups.graph import Graph, trace
from ..methods.base import METHODS, Method
from ..prune import cut
from .contract import fits, frozen_dataclass, law, meets, named, on_some, untouched
from .networks import Given, Network

STEPS, RATE = 5, 0.01


def check_method(method: str | Method, *, network: Given | None = None, budget: Budget | None = None) -> None:
    """A frozen dataclass with its paper; hooks run in a plain loop and change no shape; the plan fits, the same seed
    gives the same plan and leaves the model as it was (law 10), the budget is met (law 6), the cut verifies (law 1).

    The budget is 0.6 of the MACs by default. A method that makes a plan where none is given brings its own.
    """
    chosen, asked = METHODS.make(method), budget or Budget(macs=0.6)
    frozen_dataclass(chosen)
    law(bool(chosen.paper), "contract", chosen, "must say which paper it is from, in `paper`")

    def on(net: Network) -> None:
        _train(chosen, net)
        graph = trace(net.model, net.example)
        with untouched(chosen, net.model):
            plan, again = (chosen.plan(graph, asked, batches=net.batches) for _ in range(2))
        law(plan == again, "law 10", chosen, f"gives another plan for the same seed on {net.name}")
        fits(chosen, graph, plan, net)
        if not _brings_its_own(chosen, graph, net):
            meets(chosen, graph, plan, asked, net)
        try:
            cut(graph, plan)
        except VerificationError as error:
            raise AssertionError(f"law 1: {named(chosen)} planned what cannot be cut on {net.name}: {error}") from error

    on_some(chosen, network, on)


def _train(method: Method, net: Network) -> None:
    """The loop that `methods/hook.py` draws, a few steps of it."""
    before = {n: t.shape for n, t in net.model.state_dict().items()}
    method.on_start(net.model)
    optimizer = torch.optim.SGD(net.model.parameters(), lr=RATE)
    for step in range(STEPS):
        inputs, target = net.batches[step % len(net.batches)]
        loss, extra = F.cross_entropy(net.model(inputs), target), method.penalty(net.model)
        optimizer.zero_grad()
        (loss if extra is None else loss + extra).backward()
        method.after_backward(net.model, RATE)
        optimizer.step()
        method.after_step(net.model, RATE)
    method.after_epoch(net.model, 1)
    method.load_state_dict(method.state_dict())
    after = {n: t.shape for n, t in net.model.state_dict().items()}
    changed = [n for n in before if after.get(n) != before[n]]
    law(not changed, "contract", method, f"changes the shape of {changed} of {net.name} while it trains")


def _brings_its_own(method: Method, graph: Graph, net: Network) -> bool:
    """Whether the method makes a plan when no budget is given."""
    try:
        method.plan(graph, None, batches=net.batches)
    except Exception:  # it needs one, and says so in its own way
        return False
    return True
