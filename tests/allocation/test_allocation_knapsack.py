"""Knapsack: what is chosen is what trying everything finds."""

import itertools

import numpy as np
import pytest
import torch

import secateur
from nets import graph
from secateur.allocation.frontier import most_worth
from secateur.allocation.knapsack import Knapsack
from secateur.allocation.ranked import Ranked
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget, BudgetUnreachable
from secateur.testing.allocator import random_scores


def brute(tables, capacity):
    """The largest worth, over all choices."""
    best = None
    for choice in itertools.product(*(range(len(c)) for c, _ in tables)):
        cost = sum(c[i] for (c, _), i in zip(tables, choice, strict=True))
        worth = sum(w[i] for (_, w), i in zip(tables, choice, strict=True))
        if cost <= capacity and (best is None or worth > best):
            best = worth
    return best


@pytest.mark.parametrize("rising", [True, False])
def test_all_small_cases_equal_brute_force(rising):
    """500 cases; costs that rise and worths that rise with the width, or neither."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        tables = []
        for _ in range(rng.integers(1, 5)):
            cost, worth = rng.integers(0, 12, (2, rng.integers(1, 6))).astype(float)
            tables.append((np.cumsum(cost), np.cumsum(worth)) if rising else (cost, worth))
        capacity = float(rng.integers(0, 40))
        expected, chosen = brute(tables, capacity), most_worth(tables, capacity)
        if expected is None:
            assert chosen is None
            continue
        assert sum(c[i] for (c, _), i in zip(tables, chosen, strict=True)) <= capacity
        assert sum(w[i] for (_, w), i in zip(tables, chosen, strict=True)) == expected


def test_a_thinned_frontier_stays_within_capacity_and_near_the_best():
    rng = np.random.default_rng(1)
    for _ in range(50):
        tables = [(np.cumsum(rng.random(8)), np.cumsum(rng.random(8))) for _ in range(6)]
        exact, thin = most_worth(tables, 12.0), most_worth(tables, 12.0, length=64)
        cost, worth = (sum(t[k][i] for t, i in zip(tables, thin, strict=True)) for k in (0, 1))
        assert cost <= 12.0
        assert worth >= 0.97 * sum(t[1][i] for t, i in zip(tables, exact, strict=True))


def kept_score(g, scores, plan):
    return sum(float(scores[x.name][torch.as_tensor(plan.kept.get(x.name, range(x.size)))].sum()) for x in g.groups)


@pytest.mark.parametrize("name", ["plain", "nonorm", "concat"])
@pytest.mark.parametrize("fields", [{"macs": 0.5}, {"params": 0.4}, {"macs": 0.6, "params": 0.5}])
def test_it_keeps_nearly_as_much_as_any_widths_can(name, fields):
    """Every combination of widths is tried on the true cost, in which layers multiply."""
    g = graph(name)
    cost, scores = CostModel(g), random_scores(g, seed=3)
    limits = secateur.Budget(**fields).limits(cost.dense())
    worth = {x.name: np.append(0.0, np.cumsum(np.sort(scores[x.name].numpy())[::-1])) for x in g.groups}
    best = 0.0
    for widths in itertools.product(*(range(1, x.size + 1) for x in g.groups)):
        named = dict(zip((x.name for x in g.groups), widths, strict=True))
        value = sum(worth[n][w] for n, w in named.items())
        if value > best and all(getattr(cost.at(named), f) <= limit for f, limit in limits.items()):
            best = value
    plan = secateur.allocate(g, scores, secateur.Budget(**fields), allocator="knapsack")
    assert 0.97 * best <= kept_score(g, scores, plan) <= best + 1e-9


@pytest.mark.parametrize("name", ["digits-resnet", "digits-vgg", "depthwise"])
def test_it_keeps_at_least_the_score_that_a_ranking_keeps(name):
    g = graph(name)
    for seed in range(5):
        scores = random_scores(g, seed)
        for fraction in (0.8, 0.5, 0.3):
            budget = secateur.Budget(macs=fraction)
            ranked = [secateur.allocate(g, scores, budget, allocator=Ranked(per_macs=p)) for p in (0.0, 1.0)]
            ours = secateur.allocate(g, scores, budget, allocator="knapsack")
            assert kept_score(g, scores, ours) >= max(kept_score(g, scores, p) for p in ranked) - 1e-9


@pytest.mark.parametrize("name", ["digits-resnet", "resnet20", "small-vgg"])
@pytest.mark.parametrize("fields", [{"macs": 0.1}, {"macs": 0.6, "params": 0.5}, {"macs": 0.9, "params": 0.2}])
def test_so_it_does_under_tight_and_several_limits(name, fields):
    """Widths that are best for costs around an answer may not fit; what fits is then near them, not the least."""
    g, scores, budget = graph(name), random_scores(graph(name)), secateur.Budget(**fields)
    ranked = [secateur.allocate(g, scores, budget, allocator=Ranked(per_macs=p)) for p in (0.0, 0.5, 1.0)]
    ours = secateur.allocate(g, scores, budget, allocator="knapsack")
    assert kept_score(g, scores, ours) >= max(kept_score(g, scores, p) for p in ranked) - 1e-9


def test_a_tighter_budget_never_gives_a_bigger_model():
    g, scores = graph("digits-resnet"), random_scores(graph("digits-resnet"))
    cost = CostModel(g)
    sizes = [
        cost.at(secateur.allocate(g, scores, secateur.Budget(macs=f), allocator="knapsack").widths(g)).macs
        for f in (0.9, 0.7, 0.5, 0.3, 0.1)
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_options():
    g, scores = graph("digits-vgg"), random_scores(graph("digits-vgg"))
    plan = secateur.allocate(g, scores, secateur.Budget(macs=0.5), allocator=Knapsack(round_to=4, min_keep=6))
    assert all(w % 4 == 0 or w in (6, g[n].size) for n, w in plan.widths(g).items())
    assert all(w >= min(6, g[n].size) for n, w in plan.widths(g).items())
    with pytest.raises(BadBudget, match="min_keep=0"):
        Knapsack(min_keep=0)
    with pytest.raises(BadBudget, match="needs a budget"):
        secateur.allocate(g, scores, allocator="knapsack")
    with pytest.raises(BudgetUnreachable, match="at least"):
        secateur.allocate(g, scores, secateur.Budget(macs=1e-9), allocator="knapsack")
