"""Uniform: the same fraction of every group, exact where floats are not."""

import pytest
import torch
from torch import nn

import secateur
from nets import graph
from secateur.allocation.uniform import Uniform
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget
from secateur.testing.allocator import random_scores


@pytest.fixture(scope="module")
def hundred():
    net = nn.Sequential(nn.Linear(3, 100), nn.ReLU(), nn.Linear(100, 10), nn.ReLU(), nn.Linear(10, 2))
    return secateur.trace(net, torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("keep", "widths"),
    [
        (0.29, (29, 2)),  # 0.29 * 100 is 28.999999999999996
        (0.57, (57, 5)),  # 0.57 * 100 is 56.99999999999999
        (0.7, (70, 7)),
        (1 - 0.9, (9, 1)),  # as written: 0.09999999999999998
        (0.1, (10, 1)),
        (0.001, (1, 1)),
        (1, (100, 10)),
        (1.0, (100, 10)),
    ],
)
def test_rounding(hundred, keep, widths):
    plan = secateur.allocate(hundred, random_scores(hundred), allocator=Uniform(keep=keep))
    assert tuple(plan.widths(hundred).values()) == widths


@pytest.mark.parametrize("keep", [0, -0.5, 1.5, float("nan")])
def test_fractions_that_make_no_sense(keep):
    with pytest.raises(BadBudget, match="fraction to keep"):
        Uniform(keep=keep)


def test_costly_groups_give_more():
    """Fractions stand to each other as the powers of what a unit saves, up to whole units and whole groups."""
    g = graph("digits-vgg")
    saving = CostModel(g).per_unit("macs")
    plan = secateur.allocate(g, random_scores(g), secateur.Budget(macs=0.3), allocator=Uniform(per_macs=0.5))
    scaled = {n: w / g[n].size * saving[n] ** 0.5 for n, w in plan.widths(g).items() if w < g[n].size}
    one_unit = {n: saving[n] ** 0.5 / g[n].size for n in scaled}
    assert len(scaled) >= 2
    assert max(scaled.values()) - min(scaled.values()) <= max(one_unit.values())


def test_a_fraction_and_a_power_are_refused_together():
    with pytest.raises(BadBudget, match="give one of them"):
        Uniform(keep=0.5, per_macs=0.5)


def test_neither_budget_nor_fraction(hundred):
    with pytest.raises(BadBudget, match="budget or a fraction"):
        secateur.allocate(hundred, random_scores(hundred), allocator="uniform")


def test_all_scores_equal(hundred):
    scores = {g.name: torch.ones(g.size, dtype=torch.float64) for g in hundred.groups}
    plan = secateur.allocate(hundred, scores, allocator=Uniform(keep=0.3))
    assert plan.kept["0"].tolist() == list(range(30))


def test_single_unit_groups_stay():
    net = nn.Sequential(nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 2))
    g = secateur.trace(net, torch.zeros(1, 3))
    plan = secateur.allocate(g, random_scores(g), allocator=Uniform(keep=0.5))
    assert plan.widths(g)["2"] == 4
    assert all(w >= 1 for w in plan.widths(g).values())
    assert secateur.cut(g, plan).model(torch.zeros(1, 3)).shape == (1, 2)


def test_a_fraction_that_misses_the_budget_is_refused():
    g, budget = graph("plain"), secateur.Budget(macs=0.1)
    try:
        plan = secateur.allocate(g, random_scores(g), budget, allocator=Uniform(keep=0.9))
    except BadBudget:
        return
    assert CostModel(g).at(plan.widths(g)).macs <= 0.1 * CostModel(g).dense().macs
