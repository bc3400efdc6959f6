"""The contracts catch those who break them, and name the law."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import secateur
from held import difference, run
from nets import graph
from secateur.allocation.base import Allocator
from secateur.allocation.ranked import Ranked
from secateur.criteria.base import Criterion, reduce_rows
from secateur.errors import BadModel
from secateur.groups.plan import Plan
from secateur.methods.base import Method
from secateur.testing import check_allocator, check_criterion, check_method, permuted


@dataclass(frozen=True)
class Good(Criterion):
    def score(self, group, evidence):
        return reduce_rows(group, evidence, lambda r: r.abs().amax(1), "mean")


@dataclass(frozen=True)
class ByPosition(Good):
    def score(self, group, evidence):
        return super().score(group, evidence) * torch.arange(1, group.size + 1)


@dataclass(frozen=True)
class Single(Good):
    def score(self, group, evidence):
        return super().score(group, evidence).float()


@dataclass(frozen=True)
class Short(Good):
    def score(self, group, evidence):
        return super().score(group, evidence)[1:]


@dataclass(frozen=True)
class Moody(Good):
    needs = frozenset()

    def score(self, group, evidence):
        return torch.rand(group.size, dtype=torch.float64, generator=torch.Generator().manual_seed(torch.seed() % 1000))


@dataclass(frozen=True)
class Meddler(Good):
    def score(self, group, evidence):
        evidence.model.train(False)
        return super().score(group, evidence)


@dataclass(frozen=True)
class Thief(Good):
    def score(self, group, evidence):
        next(evidence.model.parameters()).data.mul_(1.5)
        return super().score(group, evidence)


@dataclass(frozen=True)
class Greedy(Good):
    needs = frozenset({"labels"})


@dataclass(frozen=True)
class Picky(Good):
    def score(self, group, evidence):
        raise BadModel("not this one")


class Bare(Good):
    pass


@pytest.mark.parametrize(
    ("criterion", "reason"),
    [
        (ByPosition(), "law 5: ByPosition"),
        (Single(), "torch.float32"),
        (Short(), r"not torch\.float64 \(8,\)"),
        (Moody(), "law 10: Moody"),
        (Meddler(), "law 10: Meddler .* changes .*training"),
        (Thief(), "law 10: Thief .* changes 0.0.weight"),
        (Greedy(), "contract: Greedy .* needs {'labels'}"),
        (Picky(), "works on none of the networks.*not this one"),
        (Bare(), "not a frozen dataclass"),
    ],
    ids=lambda c: type(c).__name__ if isinstance(c, Criterion) else "",
)
def test_criteria_that_break_it(criterion, reason):
    with pytest.raises(AssertionError, match=reason):
        check_criterion(criterion)


def test_a_good_criterion_passes():
    check_criterion(Good())
    check_criterion(Good(), network=(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), torch.zeros(2, 6)))


def test_a_criterion_that_refuses_some_networks_passes():
    check_criterion("bn-scale")  # the linear network has no batch norm
    flat = (nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), torch.zeros(2, 6))
    with pytest.raises(AssertionError, match=r"works on none.*the given network: BadModel"):
        check_criterion("bn-scale", network=flat)


@dataclass(frozen=True)
class Misses(Ranked):
    def allocate(self, graph, scores, cost, budget):
        limits = {n: v * 1.2 for n, v in budget.limits(cost.dense()).items()}
        return super().allocate(graph, scores, cost, secateur.Budget(**limits))


@dataclass(frozen=True)
class Silent(Ranked):
    def allocate(self, graph, scores, cost, budget):
        try:
            return super().allocate(graph, scores, cost, budget)
        except secateur.SecateurError:
            return Plan()


@dataclass(frozen=True)
class Spoils(Ranked):
    def allocate(self, graph, scores, cost, budget):
        plan = super().allocate(graph, scores, cost, budget)
        next(iter(scores.values())).zero_()
        return plan


@dataclass(frozen=True)
class Thaws(Ranked):
    def allocate(self, graph, scores, cost, budget):
        plan = super().allocate(graph, scores, cost, budget)
        stuck = [f for f in graph.frozen if f.reason.startswith("asked")]
        return Plan(edits=(*plan.edits, *(secateur.Keep(group=f.name, units=(0,)) for f in stuck)))


@pytest.mark.parametrize(
    ("allocator", "reason"),
    [
        (Misses(), "law 6: Misses .* misses macs=0.6 on plain"),
        (Silent(), "law 11: Silent .* without an error; it must raise NothingToDo"),
        (Spoils(), "law 10: Spoils"),
        (Thaws(), "touches frozen groups"),
    ],
    ids=lambda a: type(a).__name__ if isinstance(a, Allocator) else "",
)
def test_allocators_that_break_it(allocator, reason):
    with pytest.raises(AssertionError, match=reason):
        check_allocator(allocator)


@dataclass(frozen=True)
class Fine(Method):
    paper = "Nobody, never (0000.00000)"


@dataclass(frozen=True)
class Anonymous(Method):
    pass


@dataclass(frozen=True)
class Wasteful(Fine):
    @property
    def allocator(self):
        return Misses()


@dataclass(frozen=True)
class Surgeon(Fine):
    def after_epoch(self, model, epoch):
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight = nn.Parameter(module.weight.data[:-1])
                module.bias = nn.Parameter(module.bias.data[:-1])


@dataclass(frozen=True)
class Tidies(Fine):
    def plan(self, graph, budget, **options):
        graph.model.eval()
        return super().plan(graph, budget, **options)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (Anonymous(), "must say which paper"),
        (Wasteful(), "law 6: Wasteful"),
        (Surgeon(), "changes the shape of"),
        (Tidies(), r"law 10: Tidies .* changes .*training"),
    ],
    ids=lambda m: type(m).__name__ if isinstance(m, Method) else "",
)
def test_methods_that_break_it(method, reason):
    with pytest.raises(AssertionError, match=reason):
        check_method(method)


def test_a_good_method_passes():
    check_method(Fine())
    check_method(Fine(), budget=secateur.Budget(params=0.4))


@pytest.mark.parametrize("name", ["padded", "grouped", "concat"])
def test_permuted_is_the_same_function_in_another_order(name):
    g = graph(name)
    other, orders = permuted(g)
    assert difference(run(g.model, g.example), run(other, g.example)) < 1e-9
    group = g.groups[0]
    again, mine = (dict(m.named_parameters())[group.members[0].tensor] for m in (other, g.model))
    index = group.members[0].index
    assert torch.equal(again[index[:, 0]], mine[index[orders[group.name], 0]])


def test_permuting_half_a_group_is_another_function():
    """The check above can fail."""
    g = graph("plain")
    group = g.groups[0]
    torn = replace(g, groups=(replace(group, members=group.members[1:]),))
    other, _ = permuted(torn)
    assert difference(run(g.model, g.example), run(other, g.example)) > 1e-3
