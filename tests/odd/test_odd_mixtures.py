"""Experts that are sent their rows in groups; what holds of plans, cuts and files when experts go."""

import copy

import pytest
import torch
import torch.nn.functional as F
from odd_case import WORDS, filled
from odd_experts import BOTH, EinsumMixture, GatheredMixture, GroupedMixture, SoftMixture
from torch import nn

import secateur
from held import assert_unchanged, difference, loss, random_plan, run, same_weights
from secateur.allocation.ranked import Ranked
from secateur.allocation.uniform import Uniform
from secateur.errors import BudgetUnreachable, PlanError
from secateur.groups.group import WIDTHS
from secateur.surgery.checkpoint import load, save


class CountedMixture(GroupedMixture):
    """Counted up to the number of experts, inclusive."""

    def ends(self, chosen):
        counts = torch.histc(chosen.to(torch.float32), self.count, 0, self.count)
        return counts.to(torch.int32).cumsum(0).to(torch.int32)


class BinnedMixture(GroupedMixture):
    def ends(self, chosen):
        return torch.bincount(chosen, minlength=self.count).cumsum(0).to(torch.int32)


class SummedMixture(GroupedMixture):
    def ends(self, chosen):
        return F.one_hot(chosen, self.count).sum(0).cumsum(0).to(torch.int32)


GROUPED = (GroupedMixture, CountedMixture, BinnedMixture, SummedMixture)


def closed(model, plan, group="gate"):
    """The model with a router that never gives a word to experts that are gone: it knows nothing of secateur."""
    model = copy.deepcopy(model)
    gone = torch.ones(len(model.gate.bias), dtype=torch.bool)
    gone[plan.kept[group].tolist()] = False
    model.gate.bias.data[gone] = float("-inf")
    return model


@pytest.mark.parametrize("cls", GROUPED)
def test_rows_sent_in_groups(cls):
    model = filled(cls())
    with assert_unchanged(model):
        g = secateur.trace(model, WORDS, kinds="expert")
        assert [(x.name, x.size, x.least) for x in g.groups] == [("gate", 5, 2)]
        for kept in ([0, 1], [1, 3, 4], [0, 2, 3, 4]):
            pruned = secateur.cut(g, secateur.Plan.keeping(g, {"gate": kept}))
            assert pruned.check.max_error < 1e-9
            wanted, got = closed(model, pruned.plan)(WORDS), pruned.model(WORDS)
            assert difference([wanted], [got]) < 1e-5
            assert pruned.model.count == len(pruned.model.up) == len(pruned.model.gate.bias)
            loss(got, None).backward()
            assert all(p.grad is not None and p.grad.shape == p.shape for p in pruned.model.parameters())


@pytest.mark.parametrize("cls", [GatheredMixture, SoftMixture])
def test_a_router_closed_by_hand_gives_the_same(cls):
    g = secateur.trace(filled(cls()), WORDS, kinds="expert")
    plan = secateur.Plan.keeping(g, {"gate": [0, 2, 3]})
    small = secateur.cut(g, plan).model
    assert small.up.shape == (3, 6, 4)
    assert small.gate.weight.equal(g.model.gate.weight[[0, 2, 3]])
    assert difference(run(closed(g.model, plan), WORDS), run(small, WORDS)) < 1e-12
    assert difference(run(g.model, WORDS), run(small, WORDS)) > 1e-3


def test_experts_go_only_if_they_are_asked_for():
    model = filled(GatheredMixture())
    g = secateur.trace(model, WORDS)
    assert {x.kind for x in g.groups} <= set(WIDTHS)
    with pytest.raises(PlanError, match="'gate' is frozen: its units are experts, not in kinds="):
        g["gate"]
    assert [x.name for x in secateur.trace(model, WORDS, kinds=BOTH).groups if x.kind == "expert"] == ["gate"]


def test_as_many_stay_as_are_taken_at_a_time():
    g = secateur.trace(filled(GatheredMixture()), WORDS, kinds="expert")
    with pytest.raises(PlanError, match="keeps 1 units of group 'gate', of which the forward takes 2 at a time"):
        secateur.Plan.keeping(g, {"gate": [3]})
    scores = secateur.score(g, "l2")
    for allocator, budget in ((Uniform(keep=0.2), None), (Ranked(keep={"gate": 0.2}), None), (Ranked(drop=3), None)):
        budget = secateur.Budget(params=0.99) if isinstance(allocator, Ranked) and not allocator.drop else budget
        assert secateur.allocate(g, scores, budget, allocator=allocator).widths(g) == {"gate": 2}
    assert secateur.allocate(g, scores, allocator=Uniform(keep=0.2, round_to=3)).widths(g) == {"gate": 3}
    with pytest.raises(BudgetUnreachable):
        secateur.allocate(g, scores, secateur.Budget(params=0.1))
    with pytest.raises(BudgetUnreachable, match="only 3 may go"):
        secateur.allocate(g, scores, allocator=Ranked(drop=4))


def test_two_cuts_are_one_and_what_is_stored_is_read(tmp_path):
    g = secateur.trace(filled(GatheredMixture()), WORDS, kinds=BOTH)
    first = random_plan(g, seed=1, keep=0.8)
    once = secateur.cut(g, first)
    again = secateur.trace(once.model, WORDS, kinds=BOTH)
    assert {x.name: (x.size, x.least) for x in again.groups}["gate"] == (4, 2)
    second = random_plan(again, seed=2, keep=0.6)
    twice = secateur.cut(again, second)
    assert same_weights(twice.model, secateur.cut(g, first.then(second)).model)
    for name, pruned in (("once", once), ("whole", secateur.cut(g, secateur.Plan()))):
        save(pruned, tmp_path / f"{name}.safetensors")
        fresh = load(tmp_path / f"{name}.safetensors", into=filled(GatheredMixture(), seed=3))
        assert same_weights(fresh, pruned.model)
    assert same_weights(secateur.cut(g, secateur.Plan()).model, g.model)


def test_experts_and_what_is_inside_of_them_are_told_apart_when_read(tmp_path):
    """One axis holds both, and either can be cut: those that were."""
    for kinds, names in ((WIDTHS, {"stem", "up"}), ("expert", {"gate"}), (BOTH, {"stem", "gate"})):
        g = secateur.trace(filled(EinsumMixture()), WORDS, kinds=kinds)
        assert {x.name for x in g.groups} == names
        pruned = secateur.cut(g, random_plan(g, keep=0.5))
        assert pruned.after.params < pruned.before.params
        save(pruned, tmp_path / "small.safetensors")
        fresh = load(tmp_path / "small.safetensors", into=filled(EinsumMixture(), seed=3))
        assert same_weights(fresh, pruned.model)


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(6, 5)

    def forward(self, x):
        share, chosen = self.gate(x).softmax(-1).topk(2)
        return share, chosen


class Chosen(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.zeros(5, 6, 6))

    def forward(self, x, share, chosen):
        return ((x[:, None, None] @ self.up[chosen]).squeeze(2) * share[..., None]).sum(1)


class Apart(nn.Module):
    """A router and experts that are checked apart, since there is a stack beside them."""

    def __init__(self):
        super().__init__()
        self.stem, self.router, self.experts = nn.Linear(12, 6), Router(), Chosen()
        self.stack = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.ReLU()) for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x).flatten(0, 1)
        x = x + self.experts(x, *self.router(x))
        for layer in self.stack:
            x = layer(x)
        return self.head(x)


def test_numbers_pass_between_blocks_that_are_checked_apart():
    g = secateur.trace(filled(Apart()), WORDS, kinds=BOTH)
    assert {"router", "experts"} <= {b.path for b in g.trace.blocks}
    (name,) = [x.name for x in g.groups if x.kind == "expert"]
    for plan in (secateur.Plan.keeping(g, {name: [1, 4]}), random_plan(g, keep=0.6)):
        assert secateur.cut(g, plan, verify="block").check.max_error < 1e-9
        assert secateur.cut(g, plan).check.max_error < 1e-9
