"""Law 6: a budget is met, counted on the model that was really cut; under a ranking one unit fewer would miss it."""

from fractions import Fraction

import pytest
import torch

import secateur
from counting import counted
from held import MEETING
from nets import HAND, OURS, graph
from secateur.allocation.ranked import Ranked
from secateur.cost.cost import CostModel
from secateur.errors import BudgetUnreachable
from secateur.testing.allocator import random_scores

BUDGETS = [{"macs": 0.6}, {"params": 0.5}, {"bytes": 0.45}, {"macs": 0.9, "params": 0.55}]
NETS = [*HAND, *OURS]


def within(cost, limits):
    return all(getattr(cost, field) <= limit for field, limit in limits.items())


@pytest.mark.parametrize("allocator", MEETING)
@pytest.mark.parametrize("name", NETS)
def test_the_cut_model_meets_the_budget(allocator, name):
    g = graph(name)
    for fields in BUDGETS:
        budget = secateur.Budget(**fields)
        try:
            plan = secateur.allocate(g, random_scores(g), budget, allocator=allocator)
        except BudgetUnreachable:
            least = secateur.cut(g, least_plan(g))
            assert not within(counted(least.model, g.example), budget.limits(counted(g.model, g.example)))
            continue
        limits = budget.limits(counted(g.model, g.example))
        assert within(counted(secateur.cut(g, plan).model, g.example), limits)


def least_plan(g):
    return secateur.Plan.keeping(g, {x.name: [0] for x in g.groups})


@pytest.mark.parametrize("per_macs", [0.0, 0.7])
@pytest.mark.parametrize("name", NETS)
def test_one_unit_fewer_would_miss_it(per_macs, name):
    g = graph(name)
    allocator, cost = Ranked(per_macs=per_macs), CostModel(g)
    for seed, field in enumerate(("macs", "params", "bytes")):
        scores = random_scores(g, seed)
        dense, least = cost.dense(), cost.at({x.name: 1 for x in g.groups})
        share = getattr(least, field) / getattr(dense, field)
        budget = secateur.Budget(**{field: share + 0.37 * (1 - share)})
        plan = allocator.allocate(g, scores, cost, budget)
        group, unit = allocator.order(g, scores, cost)
        removed = sum(x.size for x in g.groups) - sum(plan.widths(g).values())
        assert gone(g, plan) == sorted(zip(group[:removed].tolist(), unit[:removed].tolist(), strict=True))
        widths = plan.widths(g)
        widths[g.groups[group[removed - 1]].name] += 1  # give the last one back
        assert not within(cost.at(widths), budget.limits(dense))


def gone(g, plan):
    """(group number, unit) of all that a plan removes."""
    kept = plan.kept
    return [
        (i, u) for i, x in enumerate(g.groups) if x.name in kept for u in sorted(set(range(x.size)) - set(kept[x.name]))
    ]


@pytest.mark.parametrize("name", NETS)
def test_uniform_keeps_the_largest_fraction_that_fits(name):
    """All fractions there are, tried one by one."""
    g, budget = graph(name), secateur.Budget(params=0.6)
    cost, limits = CostModel(g), budget.limits(CostModel(g).dense())
    fractions = sorted({Fraction(k, x.size) for x in g.groups for k in range(1, x.size + 1)}, reverse=True)
    all_widths = ({x.name: max(1, int(f * x.size)) for x in g.groups} for f in fractions)
    expected = next((w for w in all_widths if within(cost.at(w), limits)), None)
    if expected is None:
        with pytest.raises(BudgetUnreachable):
            secateur.allocate(g, random_scores(g), budget, allocator="uniform")
    else:
        assert secateur.allocate(g, random_scores(g), budget, allocator="uniform").widths(g) == expected


@pytest.mark.parametrize("allocator", MEETING)
def test_the_least_budget_is_reachable_and_nothing_below(allocator):
    g = graph("padded")
    least = CostModel(g).at({x.name: 1 for x in g.groups})
    exact = secateur.allocate(g, random_scores(g), secateur.Budget(params=float(least.params)), allocator=allocator)
    assert set(exact.widths(g).values()) == {1}
    with pytest.raises(BudgetUnreachable, match=f"at least {least.params} "):
        secateur.allocate(g, random_scores(g), secateur.Budget(params=least.params - 1.0), allocator=allocator)


@pytest.mark.parametrize("name", ["plain", "padded", "digits-resnet"])
def test_the_highest_scores_stay(name):
    g, scores = graph(name), random_scores(graph(name))
    for allocator in MEETING:
        plan = secateur.allocate(g, scores, secateur.Budget(macs=0.5), allocator=allocator)
        for group, units in plan.kept.items():
            kept = torch.zeros(g[group].size, dtype=torch.bool)
            kept[units] = True
            assert scores[group][kept].min() > scores[group][~kept].max()
