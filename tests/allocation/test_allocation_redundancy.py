"""Redundant groups give more: the formula, brute force over all t, and what it honours."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import HAND, OURS, graph
from secateur.allocation.base import ALLOCATORS
from secateur.allocation.ranked import Ranked
from secateur.allocation.redundancy import ByRedundancy
from secateur.cost.cost import CostModel
from secateur.criteria.redundancy import of_group
from secateur.errors import BadBudget, BadModel, BadOption, BudgetUnreachable
from secateur.evidence.base import Evidence
from secateur.testing import check_allocator
from secateur.testing.allocator import random_scores


def within(cost, limits):
    return all(getattr(cost, field) <= limit for field, limit in limits.items())


def widths_at(g, rho, t, largest):
    """size - floor(size * min(t * rho, largest)), at least one left."""
    return {x.name: max(1, x.size - math.floor(x.size * min(t * rho[x.name], largest) * (1 + 1e-12))) for x in g.groups}


@pytest.mark.parametrize("largest", [1.0, 0.75])
@pytest.mark.parametrize("name", ["plain", "padded", "flat", "digits-resnet", "digits-vgg"])
def test_fractions_are_in_proportion_to_redundancy(name, largest):
    """The plan is the formula's at the smallest t that meets the budget, tried one by one."""
    g = graph(name)
    allocator, cost = ByRedundancy(min_keep=1 if largest == 1.0 else 1 - largest), CostModel(g)
    rho = allocator.relative(g)
    steps = sorted(n / (x.size * rho[x.name]) for x in g.groups for n in range(1, x.size + 1))
    for fraction in (0.9, 0.6, 0.4):
        budget = secateur.Budget(macs=fraction)
        limits = budget.limits(cost.dense())
        tried = (widths_at(g, rho, t, largest) for t in steps)
        expected = next((w for w in tried if within(cost.at(w), limits)), None)
        if expected is None:
            with pytest.raises(BudgetUnreachable):
                secateur.allocate(g, random_scores(g), budget, allocator=allocator)
        else:
            assert secateur.allocate(g, random_scores(g), budget, allocator=allocator).widths(g) == expected


@pytest.mark.parametrize("name", HAND | OURS)
def test_one_unit_fewer_would_miss_it(name):
    g, allocator = graph(name), ByRedundancy()
    cost, scores = CostModel(g), random_scores(g)
    least = cost.at({x.name: 1 for x in g.groups}).params / cost.dense().params
    budget = secateur.Budget(params=least + 0.4 * (1 - least))
    widths = allocator.allocate(g, scores, cost, budget).widths(g)
    group, _ = allocator.order(g, scores, cost)
    last = group[sum(x.size for x in g.groups) - sum(widths.values()) - 1]
    widths[g.groups[last].name] += 1
    assert not within(cost.at(widths), budget.limits(cost.dense()))


def test_rho_is_redundancy_over_its_mean():
    g = graph("digits-resnet")
    found = {x.name: of_group(x, Evidence(g.model)).combined for x in g.groups}
    rho = ByRedundancy().relative(g)
    assert sum(rho.values()) / len(rho) == pytest.approx(1)
    assert all(rho[n] == pytest.approx(r / np.mean(list(found.values()))) for n, r in found.items())


def planted(*ranks):
    """A chain of linear layers of 24 units, each with so many different rows, which are orthonormal."""
    layers = []
    for i, rank in enumerate(ranks):
        q, _ = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(i), dtype=torch.float64))
        layers += [nn.Linear(24, 24, bias=False), nn.ReLU()]
        layers[-2].weight.data = q[:rank].repeat(24 // rank, 1)
    return secateur.trace(nn.Sequential(*layers, nn.Linear(24, 2)).double(), torch.zeros(1, 24).double())


def test_a_planted_redundant_layer_gives_and_one_without_any_does_not():
    g = planted(24, 6, 24)
    rho = ByRedundancy().relative(g)
    assert rho == pytest.approx({"0": 0, "2": 3, "4": 0}, abs=1e-9)
    for macs in (0.95, 0.6):
        widths = secateur.allocate(g, random_scores(g), secateur.Budget(macs=macs), allocator=ByRedundancy()).widths(g)
        assert (widths["0"], widths["4"]) == (24, 24)
        assert widths["2"] < 24


def test_groups_without_any_give_last_and_alike():
    g = planted(24, 6, 24)
    allocator = ByRedundancy()
    group, _ = allocator.order(g, random_scores(g), CostModel(g))
    assert group[:23].tolist() == [1] * 23
    assert group[23:].tolist() == [0, 2] * 23
    least = CostModel(g).at({"0": 1, "2": 1, "4": 1}).macs
    plan = secateur.allocate(g, random_scores(g), secateur.Budget(macs=float(least)), allocator=allocator)
    assert set(plan.widths(g).values()) == {1}


def test_where_no_group_has_any_all_give_alike():
    g = planted(24, 24)
    assert ByRedundancy().relative(g) == {"0": 1, "2": 1}
    plan = secateur.allocate(g, random_scores(g), secateur.Budget(macs=0.5), allocator=ByRedundancy())
    first, second = plan.widths(g).values()
    assert first + 1 >= second >= first


def test_the_highest_scores_stay():
    g, scores = graph("digits-vgg"), random_scores(graph("digits-vgg"))
    plan = secateur.allocate(g, scores, secateur.Budget(macs=0.5), allocator=ByRedundancy())
    for name, units in plan.kept.items():
        assert units.tolist() == sorted(scores[name].argsort(descending=True)[: len(units)].tolist())


def test_scores_do_not_move_widths():
    g = graph("digits-vgg")
    plans = [
        secateur.allocate(g, random_scores(g, seed), secateur.Budget(macs=0.5), allocator=ByRedundancy())
        for seed in (0, 1)
    ]
    assert plans[0].widths(g) == plans[1].widths(g)
    assert plans[0] != plans[1]


@pytest.mark.parametrize("statistic", ["spectral", "similar", "magnitude"])
def test_one_statistic_alone(statistic):
    g = graph("digits-vgg")
    found = [of_group(x, Evidence(g.model)) for x in g.groups]
    values = np.array(
        [r.magnitude if statistic == "magnitude" else getattr(r, f"{statistic}_beyond_chance") for r in found]
    )
    rho = ByRedundancy(statistic=statistic).relative(g)
    np.testing.assert_allclose(list(rho.values()), values / values.mean())
    assert ALLOCATORS.configured("redundancy", {"statistic": statistic}) == ByRedundancy(statistic=statistic)


def test_a_statistic_that_does_not_exist():
    with pytest.raises(BadOption, match=r"normalise='group' .* within groups alone"):
        ByRedundancy(normalise="group")
    with pytest.raises(BadOption, match="statistic"):
        ALLOCATORS.configured("redundancy", {"statistic": "rank"})


@pytest.mark.parametrize(("option", "reason"), [({"min_keep": 0}, "min_keep="), ({"keep": {"*": 2}}, "keep=")])
def test_options_that_make_no_sense(option, reason):
    with pytest.raises(BadBudget, match=reason):
        ByRedundancy(**option)


def test_costly_groups_give_more():
    g = graph("digits-vgg")
    saving, rho = CostModel(g).per_unit("macs"), ByRedundancy().relative(g)
    group, unit = ByRedundancy(per_macs=1.0).order(g, random_scores(g), CostModel(g))
    seen, keys = {}, []
    for i in group:
        x = g.groups[i]
        seen[x.name] = seen.get(x.name, 0) + 1
        keys.append(seen[x.name] / (x.size * rho[x.name] * saving[x.name]))
    assert keys == sorted(keys)
    assert len(unit) == sum(x.size - 1 for x in g.groups)


ASKED = [
    ByRedundancy(round_to=4),
    ByRedundancy(round_to={"*": 2}, per_macs=0.5),
    ByRedundancy(min_keep=0.3),
    ByRedundancy(min_keep=0.2, round_to=2, statistic="similar"),
]


@pytest.mark.parametrize("allocator", ASKED, ids=str)
@pytest.mark.parametrize("name", ["digits-vgg", "digits-resnet"])
def test_options_are_honoured_and_budgets_nest(allocator, name):
    g, scores = graph(name), random_scores(graph(name))
    cost, kept = CostModel(g), []
    for fraction in (0.9, 0.7, 0.5):
        plan = secateur.allocate(g, scores, secateur.Budget(macs=fraction), allocator=allocator)
        assert cost.at(plan.widths(g)).macs <= fraction * cost.dense().macs
        kept.append({x.name: set(plan.kept.get(x.name, range(x.size))) for x in g.groups})
        for x in g.groups:
            width = plan.widths(g)[x.name]
            multiple = allocator.round_to if isinstance(allocator.round_to, int) else 2
            assert width == x.size or width % multiple == 0
            assert width >= (allocator.min_keep * x.size if allocator.min_keep < 1 else 1)
    assert all(tight[n] <= loose[n] for loose, tight in itertools.pairwise(kept) for n in tight)


def test_told_widths_take_no_part():
    g = graph("digits-vgg")
    name = g.groups[1].name
    for fraction in (0.8, 0.5):
        plan = secateur.allocate(
            g, random_scores(g), secateur.Budget(macs=fraction), allocator=ByRedundancy(keep={name: 0.75})
        )
        assert plan.widths(g)[name] == int(0.75 * g[name].size)


def test_a_model_without_weights_is_refused():
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    g = secateur.trace(net, torch.zeros(1, 4, device="meta"))
    with pytest.raises(BadModel, match="meta device"):
        secateur.allocate(g, random_scores(g), secateur.Budget(macs=0.5), allocator="redundancy")


def test_no_groups():
    g = secateur.trace(nn.Linear(3, 2), torch.zeros(1, 3))
    with pytest.raises(BudgetUnreachable):
        secateur.allocate(g, {}, secateur.Budget(macs=0.5), allocator="redundancy")


def test_the_contract():
    check_allocator("redundancy")
    assert isinstance(ALLOCATORS.make("redundancy"), Ranked)
