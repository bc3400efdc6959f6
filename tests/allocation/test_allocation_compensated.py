"""LeGR: the search on objectives whose best is known, and what follows from no objective, one seed and a budget."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from held import assert_unchanged, labelled
from nets import graph
from secateur.allocation.base import ALLOCATORS
from secateur.allocation.compensated import Compensated, compensated
from secateur.allocation.ranked import Ranked
from secateur.allocation.scopes import normalised
from secateur.cost.cost import CostModel
from secateur.errors import BadOption, BudgetUnreachable, NeedsData, UnknownName
from secateur.experiments.masked import masked_loss
from secateur.testing import check_allocator
from secateur.testing.allocator import random_scores

HALF = secateur.Budget(macs=0.5)


def two():
    layers = (nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 4))
    return secateur.trace(nn.Sequential(*layers), torch.zeros(1, 8))


def test_an_objective_that_says_nothing_gives_the_plain_ranking():
    g = graph("digits-resnet")
    for budget in (HALF, secateur.Budget(params=0.3)):
        plan = secateur.allocate(
            g, random_scores(g), budget, allocator=Compensated(objective=lambda _: 0.0, generations=80)
        )
        assert plan == secateur.allocate(g, random_scores(g), budget)


@pytest.mark.parametrize("learn", ["both", "shift"])
def test_with_two_groups_it_finds_what_all_shifts_give(learn):
    """Only the difference of the shifts counts, so brute force is a line of differences."""
    g, scores = two(), random_scores(two(), 2)

    def objective(plan):
        a, b = plan.widths(g).values()
        return (a - 5) ** 2 + 0.1 * b

    tried = []
    for shift in np.linspace(-2, 2, 801):
        moved = compensated(g, scores, np.array([[0.0, shift], [0.0, 0.0]]))
        tried.append(objective(secateur.allocate(g, moved, HALF)))
    found = secateur.allocate(g, scores, HALF, allocator=Compensated(objective=objective, learn=learn))
    if learn == "shift":
        assert objective(found) == min(tried)
    assert objective(found) <= min(tried)


def test_scores_are_normalised_before_they_are_compensated():
    """Else no factor and no shift would count."""
    g, scores = two(), random_scores(two(), 2)
    scaled = normalised(g, scores, "group", "min-max")

    def objective(plan):
        return abs(plan.widths(g)["0"] - 9) + 0.1 * plan.widths(g)["2"]

    found = secateur.allocate(
        g, scores, HALF, allocator=Compensated(normalise="group", by="min-max", objective=objective)
    )
    assert found == secateur.allocate(g, scaled, HALF, allocator=Compensated(objective=objective))
    assert objective(found) < objective(secateur.allocate(g, scaled, HALF))


def test_adding_one_number_to_every_shift_changes_nothing_and_a_large_one_protects():
    g, scores = two(), random_scores(two())
    genes = np.array([[0.3, 0.1], [-0.2, 0.4]])
    plans = [secateur.allocate(g, compensated(g, scores, genes + np.array([0, k])), HALF) for k in (0.0, 7.0)]
    assert plans[0] == plans[1]
    kept = secateur.allocate(g, compensated(g, scores, np.array([[0.0, 0.0], [0.0, 1e6]])), HALF).widths(g)
    assert kept["2"] == 10


def test_it_does_not_do_worse_than_the_ranking_and_measures_each_choice_once():
    g, scores = graph("digits-resnet"), random_scores(graph("digits-resnet"))
    seen = []
    loss = masked_loss(g, labelled(g.example))

    def objective(plan):
        seen.append(tuple(plan.widths(g).values()))
        return loss(plan)

    allocator = Compensated(objective=objective, generations=40, population=12, tournament=4, mutate=0.2)
    with assert_unchanged(g.model):
        plan = secateur.allocate(g, scores, HALF, allocator=allocator)
    assert len(set(seen)) == len(seen) <= 40
    assert len(seen) > 10
    assert loss(plan) == min(map(loss_of(g, scores, loss), seen)) <= loss(secateur.allocate(g, scores, HALF))


def loss_of(g, scores, loss):
    from secateur.allocation.choices import highest

    return lambda widths: loss(
        secateur.Plan.keeping(g, highest(g, scores, dict(zip((x.name for x in g.groups), widths, strict=True))))
    )


def test_children_come_from_the_best_of_the_living_and_the_oldest_dies():
    """With one to live, one to choose from and all groups mutated, each is a child of the one before."""
    g, met = two(), []

    class Watched(Compensated):
        def _next(self, alive, *rest):
            met.append([genes.copy() for _, genes in alive])
            return super()._next(alive, *rest)

    watched = Watched(objective=lambda plan: float(plan.widths(g)["0"]), population=3, generations=9, tournament=2)
    secateur.allocate(g, random_scores(g), HALF, allocator=watched)
    assert [len(m) for m in met] == [0, 1, 2, 3, 3, 3, 3, 3, 3]
    assert not met[1][0].any()  # the identity
    for before, after in itertools.pairwise(met[3:]):
        assert all(np.array_equal(a, b) for a, b in zip(before[1:], after[:-1], strict=True))
        child = after[-1]
        # One group of two is changed, and the other is a parent's.
        assert any((child == parent).all(1).sum() == 1 for parent in before)


def test_one_seed_one_plan_and_another_seed_another():
    g = graph("digits-resnet")
    target = {x.name: i % 7 + 2 for i, x in enumerate(g.groups)}

    def objective(plan):
        return float(sum((w - target[n]) ** 2 for n, w in plan.widths(g).items()))

    def plan(seed):
        allocator = Compensated(objective=objective, generations=70, population=20, seed=seed)
        return secateur.allocate(g, random_scores(g), HALF, allocator=allocator)

    assert plan(0) == plan(0) != plan(1)
    assert objective(plan(0)) < objective(secateur.allocate(g, random_scores(g), HALF))


@pytest.mark.parametrize("learn", ["both", "shift"])
def test_the_contract(learn):
    check_allocator(
        Compensated(objective=lambda plan: float(len(str(plan))), learn=learn, generations=20, population=8)
    )


def test_options_of_ranked_hold():
    g = graph("digits-vgg")
    allocator = Compensated(
        objective=lambda plan: -float(plan.widths(g)[g.groups[0].name]),
        generations=30,
        population=10,
        round_to=4,
        min_keep=0.25,
        keep={g.groups[-1].name: 0.5},
    )
    found = secateur.allocate(g, random_scores(g), secateur.Budget(macs=0.4), allocator=allocator).widths(g)
    assert found.pop(g.groups[-1].name) == g.groups[-1].size // 2
    assert all(w % 4 == 0 and w >= 0.25 * g[n].size for n, w in found.items())
    assert CostModel(g).at(found).macs
    assert isinstance(allocator, Ranked)


def test_what_is_refused():
    g, called = graph("plain"), []
    with pytest.raises(NeedsData, match="masked_loss"):
        secateur.allocate(g, random_scores(g), HALF, allocator="legr")
    with pytest.raises(BudgetUnreachable, match="at least"):
        secateur.allocate(
            g, random_scores(g), secateur.Budget(macs=1e-9), allocator=Compensated(objective=called.append)
        )
    assert not called
    with pytest.raises(BadOption, match="gives nan"):
        secateur.allocate(g, random_scores(g), HALF, allocator=Compensated(objective=lambda _: float("nan")))
    for option in ({"population": 0}, {"generations": 0}, {"tournament": -1}, {"mutate": 0.0}, {"spread": -1.0}):
        with pytest.raises(BadOption, match=next(iter(option))):
            Compensated(**option)
    with pytest.raises(UnknownName, match="generation"):
        ALLOCATORS.configured("legr", {"generation": 3})
    assert ALLOCATORS.configured("legr", {"generations": 3, "learn": "shift"}) == Compensated(
        generations=3, learn="shift"
    )
