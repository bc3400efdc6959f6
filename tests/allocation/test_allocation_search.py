"""Random search and Optuna's samplers: budgets met tightly, the best of what was tried, one seed one plan."""

import importlib.util
import random

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from held import assert_unchanged, labelled
from nets import graph
from secateur.allocation import samplers
from secateur.allocation.base import ALLOCATORS
from secateur.allocation.search import RandomSearch
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget, BadOption, BudgetUnreachable, MissingDependency
from secateur.experiments.masked import masked_loss
from secateur.testing import check_allocator
from secateur.testing.allocator import random_scores

HALF = secateur.Budget(macs=0.5)
OPTUNA = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="Optuna is not installed")
SAMPLERS = ["random", pytest.param("tpe", marks=OPTUNA)]


def watching(g, of=lambda plan: 0.0):
    """An objective that remembers what it was asked."""
    seen = []

    def objective(plan):
        seen.append(plan.widths(g))
        return of(plan)

    return objective, seen


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("fields", [{"macs": 0.5}, {"params": 0.3}, {"macs": 0.7, "bytes": 0.6}])
def test_every_trial_meets_the_budget_and_next_to_nothing_is_left_over(sampler, fields):
    """What is left over is less than one unit of every group would take."""
    g = graph("digits-resnet")
    cost, budget = CostModel(g), secateur.Budget(**fields)
    objective, seen = watching(g)
    secateur.allocate(g, random_scores(g), budget, allocator=RandomSearch(30, objective=objective, sampler=sampler))
    assert len(seen) == 30
    for widths in seen:
        reached, wider = cost.at(widths), cost.at({n: min(w + 1, g[n].size) for n, w in widths.items()})
        limits = budget.limits(cost.dense())
        assert all(getattr(reached, f) <= limit for f, limit in limits.items())
        assert any(getattr(wider, f) > limit for f, limit in limits.items())
    spans = [max(w[x.name] for w in seen) - min(w[x.name] for w in seen) for x in g.groups]
    assert min(spans) > 2  # every group is sometimes wide and sometimes narrow


def test_the_best_of_all_trials_is_given_and_unless_told_it_keeps_most_score():
    g, scores = graph("digits-vgg"), random_scores(graph("digits-vgg"))

    def kept(plan):
        return sum(float(scores[x.name][list(plan.kept.get(x.name, range(x.size)))].sum()) for x in g.groups)

    objective, seen = watching(g, lambda plan: -kept(plan))
    told = secateur.allocate(g, scores, HALF, allocator=RandomSearch(40, objective=objective))
    plain = secateur.allocate(g, scores, HALF, allocator=RandomSearch(40))
    assert told == plain
    values = [kept(secateur.allocate(g, scores, HALF, allocator=RandomSearch(n))) for n in (1, 5, 40)]
    assert values == sorted(values)
    assert values[0] < values[-1]
    assert plain.widths(g) in seen


def test_of_equal_plans_the_first():
    g = graph("digits-vgg")
    objective, seen = watching(g)
    plan = secateur.allocate(g, random_scores(g), HALF, allocator=RandomSearch(10, objective=objective))
    assert plan.widths(g) == seen[0]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_seed_one_plan_and_no_generator_is_touched(sampler):
    g = graph("digits-resnet")
    np.random.seed(5)  # noqa: NPY002  the global generator is what is watched
    before = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    with assert_unchanged(g.model):
        plans = [
            secateur.allocate(g, random_scores(g), HALF, allocator=RandomSearch(15, seed, sampler=sampler))
            for seed in (0, 0, 1)
        ]
    assert plans[0] == plans[1] != plans[2]
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # noqa: NPY002


@OPTUNA
def test_tpe_learns_where_random_draws_do_not(capfd):
    """The best widths are far out: one group whole, the others narrow."""
    g = graph("digits-vgg")

    def objective(plan):
        first, *rest = plan.widths(g).values()
        return float(sum(rest) - 3 * first)

    import optuna

    before = optuna.logging.get_verbosity()
    found = {
        s: np.mean(
            [
                objective(secateur.allocate(g, random_scores(g), HALF, allocator=RandomSearch(60, seed, objective, s)))
                for seed in range(3)
            ]
        )
        for s in ("random", "tpe")
    }
    assert found["tpe"] < found["random"]
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_a_masked_loss_is_an_objective():
    g, scores = graph("plain"), random_scores(graph("plain"))
    loss = masked_loss(g, labelled(g.example))
    objective, seen = watching(g, loss)
    plan = secateur.allocate(g, scores, HALF, allocator=RandomSearch(20, objective=objective))
    assert len({tuple(w.values()) for w in seen}) == len(seen) > 3  # each choice of widths is measured once
    assert loss(plan) <= loss(secateur.allocate(g, scores, HALF, allocator=RandomSearch(1)))


def test_blocks_do_not_go_first():
    """A block is a group of one unit: it goes when as much of it has gone as of a unit of others."""
    from secateur.testing.networks import deep

    model, example = deep()
    g = secateur.trace(model, example, kinds=("channel", "depth"))
    names = [x.name for x in g.groups if not x.least]
    objective, seen = watching(g)
    secateur.allocate(g, random_scores(g), secateur.Budget(macs=0.25), allocator=RandomSearch(40, objective=objective))
    dropped = [sum(w[n] == 0 for n in names) for w in seen]
    assert min(dropped) < len(names)
    assert max(dropped) > 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_contract(sampler):
    check_allocator(RandomSearch(8, sampler=sampler))


def test_options():
    g = graph("digits-vgg")
    allocator = RandomSearch(10, round_to=4, min_keep=6, max_keep={"*": 0.9})
    for name, width in secateur.allocate(g, random_scores(g), HALF, allocator=allocator).widths(g).items():
        assert width % 4 == 0 or width == 6
        assert 6 <= width <= 0.9 * g[name].size


def test_what_is_refused(monkeypatch):
    g, called = graph("plain"), []
    with pytest.raises(BadBudget, match="needs a budget"):
        secateur.allocate(g, random_scores(g), allocator="random")
    with pytest.raises(BudgetUnreachable, match="at least"):
        secateur.allocate(
            g, random_scores(g), secateur.Budget(macs=1e-9), allocator=RandomSearch(objective=called.append)
        )
    assert not called
    with pytest.raises(BadOption, match="trials=0"):
        RandomSearch(0)
    with pytest.raises(BadOption, match="sampler"):
        ALLOCATORS.configured("random", {"sampler": "grid"})
    monkeypatch.setattr(samplers, "find_spec", lambda name: None if name in ("optuna", "cmaes") else object())
    for sampler in ("tpe", "cmaes"):
        with pytest.raises(MissingDependency, match=f"sampler='{sampler}' needs optuna"):
            secateur.allocate(g, random_scores(g), HALF, allocator=RandomSearch(3, sampler=sampler))
    monkeypatch.setattr(samplers, "find_spec", lambda name: None if name == "cmaes" else object())
    with pytest.raises(MissingDependency, match="needs cmaes"):
        secateur.allocate(g, random_scores(g), HALF, allocator=RandomSearch(3, sampler="cmaes"))


def test_a_net_without_groups_is_refused_by_its_budget():
    g = secateur.trace(nn.Linear(3, 2), torch.zeros(1, 3))
    with pytest.raises(BudgetUnreachable):
        secateur.allocate(g, {}, HALF, allocator="random")
