"""The laws that any network must keep, as one check of a program; and counts of what could be pruned."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_reference import silenced
from random_nets import Program, example, network
from torch import nn

import secateur
from held import assert_unchanged, difference, random_plan, run, same_weights, tensors_of, zeroed
from secateur.allocation.uniform import Uniform
from secateur.errors import NothingToDo, TraceError
from secateur.graph.example import call, tensors
from secateur.groups.graph import Graph
from secateur.groups.plan import Keep, Plan

EXACT = 1e-6
# Ops in which a sum, a mean or a comparison may run over channels: there a removed channel is not one that is zero.
# And `zeroed` knows no table that is both written and read, as an embedding that is also the head.
REDUCES = {
    "tied_head",
    "rms",
    "ln",
    "lnfirst",
    "gn",
    "gntokens",
    "softmax",
    "mean",
    "imagemap",
    "attention",
    "fused",
    "mha",
    "glu",
    "rnn",
    "cross",
    "einsum_heads",
    "unit",
}


class Coverage:
    """Units seen over many networks, and how many of them a plan may remove."""

    def __init__(self) -> None:
        self.nets, self.refused, self.free, self.stuck = 0, 0, 0, 0
        self.reasons: Counter[str] = Counter()

    def count(self, graph: Graph | None) -> None:
        self.nets += 1
        self.refused += graph is None
        if graph is not None:
            self.free += sum(g.size for g in graph.groups)
            self.stuck += sum(f.size for f in graph.frozen)
            for f in graph.frozen:
                self.reasons[f.reason] += f.size

    @property
    def share(self) -> float:
        return self.free / max(1, self.free + self.stuck)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail when the process has computed for longer; where the machine is busy, it is not the network's fault."""

    def late(*_: Any) -> None:
        raise AssertionError(f"not done after {seconds} s of computing")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def check(program: Program, folder: Path, coverage: Coverage, *, seconds: float = 30.0) -> None:
    """Laws 1, 2, 3, 4, 9 and 10 on one network; a `TraceError` is a refusal and is counted."""
    with within(seconds):
        hold(program, folder, coverage)


def hold(program: Program, folder: Path, coverage: Coverage) -> None:
    model, x = network(program), example(program)
    with assert_unchanged(model):
        try:
            graph = secateur.trace(model, x)
        except TraceError:
            return coverage.count(None)
    coverage.count(graph)
    partition(graph)
    with assert_unchanged(model):
        keep_all(graph)
        cut_equals_mask(program, graph, random_plan(graph, seed=1, keep=0.0))
        pruned = cut_equals_mask(program, graph, random_plan(graph, seed=2))
        save_and_load(program, graph, pruned, folder)
        two_cuts(graph)
        repeatable(program, graph)
    return None


def partition(graph: Graph) -> None:
    """Law 4: no position of any axis is held twice, and what is in no group is frozen with a reason."""
    count = {(n, d): np.zeros(s, dtype=int) for n, t in tensors_of(graph.model).items() for d, s in enumerate(t.shape)}
    for group in graph.groups:
        assert group.size > 0
        for member in group.members:
            assert member.index.shape[0] == group.size
            np.add.at(count[member.tensor, member.axis], member.index, 1)
    assert all((held <= 1).all() for held in count.values()), "a position is held twice"
    names = [g.name for g in (*graph.groups, *graph.frozen)]
    assert len(set(names)) == len(names), "two groups of one name"
    assert all(f.reason for f in graph.frozen), "frozen without a reason"


def cut_equals_mask(program: Program, graph: Graph, plan: Plan) -> secateur.Pruned:
    """Law 1: verified, and held against references that share nothing with `verify`."""
    pruned = secateur.cut(graph, plan)
    assert pruned.check.max_error <= EXACT
    got = run(pruned.model, graph.example)
    kinds = {kind for kind, _, _ in program["ops"]}
    if not kinds & REDUCES:
        assert difference_(run(zeroed(graph, plan), graph.example), got) <= EXACT, "not what zeroed weights give"
    assert difference_(silenced(graph, plan), got) <= EXACT, "not what kept units alone give"
    for name, t in tensors_of(pruned.model).items():
        assert t.dtype == tensors_of(graph.model)[name].dtype
    return pruned


def difference_(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """As `difference`, where an output may be zero everywhere."""
    kept = [(x, y) for x, y in zip(a, b, strict=True) if x.numel() and float(x.abs().max()) > 1e-9]
    assert all(x.shape == y.shape for x, y in zip(a, b, strict=True))
    return difference(*map(list, zip(*kept, strict=True))) if kept else 0.0


def keep_all(graph: Graph) -> None:
    """Law 2: bit for bit the same."""
    stated = Plan(edits=tuple(Keep(group=g.name, units=tuple(range(g.size))) for g in graph.groups))
    pruned = secateur.cut(graph, stated, verify="off")
    assert same_weights(graph.model, pruned.model), "keeping everything changed a weight or an int"
    assert all(
        torch.equal(a, b) for a, b in zip(outputs(graph.model, graph), outputs(pruned.model, graph), strict=True)
    )
    assert pruned.before == pruned.after


def two_cuts(graph: Graph) -> None:
    """Law 3: two cuts are one cut by the composed plan.

    The first leaves two units of each group: with one head, or one channel in each group of a convolution, the model
    is of another kind, its units are other ones, and plans do not compose by the groups' names.
    """
    first = thinned(graph, seed=4, least=2)
    again = secateur.trace(secateur.cut(graph, first, verify="off").model, graph.example)
    assert {g.name: g.size for g in again.groups} == first.widths(graph), "a cut changed which groups there are"
    second = random_plan(again, seed=5, keep=0.6)
    twice, once = secateur.cut(again, second), secateur.cut(graph, first.then(second), verify="off")
    assert same_weights(twice.model, once.model), "two cuts are not one"
    assert twice.after == once.after, "two cuts cost something else than one"


def thinned(graph: Graph, seed: int, least: int) -> Plan:
    """Keep a random part of each group, but not fewer units than `least`."""
    rng = np.random.default_rng(seed)
    widths = {g.name: int(rng.integers(min(least, g.size), g.size + 1)) for g in graph.groups}
    return Plan.keeping(graph, {g.name: np.sort(rng.permutation(g.size)[: widths[g.name]]) for g in graph.groups})


def save_and_load(program: Program, graph: Graph, pruned: secateur.Pruned, folder: Path) -> None:
    """Law 9: what is loaded into a fresh network gives the same bits, and the fresh one stays as it was."""
    path = folder / "net.safetensors"
    secateur.save(pruned, path)
    into = network(program, seed=5)
    with assert_unchanged(into, pruned.model):
        loaded = secateur.load(path, into=into)
    assert same_weights(pruned.model, loaded), "what was loaded is not what was saved"
    assert all(torch.equal(a, b) for a, b in zip(outputs(pruned.model, graph), outputs(loaded, graph), strict=True))


def outputs(model: nn.Module, graph: Graph) -> list[torch.Tensor]:
    modes = [(m, m.training) for m in model.modules()]
    with torch.no_grad():
        found = tensors(call(model.eval(), graph.example))
    for module, mode in modes:
        module.training = mode
    return found


def repeatable(program: Program, graph: Graph) -> None:
    """Law 10: the same seed gives the same plan and the same weights."""
    again = secateur.trace(network(program), example(program))
    try:
        plans = [
            secateur.allocate(g, secateur.score(g, "random", seed=7), allocator=Uniform(keep=0.5))
            for g in (graph, again)
        ]
    except NothingToDo:
        assert all(g.size == 1 for g in graph.groups), "a uniform cut found nothing to do"
        return
    assert plans[0] == plans[1], "one seed gave two plans"
    made = [secateur.cut(g, plan, verify="off").model for g, plan in zip((graph, again), plans, strict=True)]
    assert same_weights(*made), "one plan gave two models"
