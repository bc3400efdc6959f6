"""Widths that a user asks for: `keep` for each pattern, and multiples with `round_to`."""

import itertools

import pytest
import torch
from torch import nn

import secateur
from counting import counted
from nets import graph
from secateur.allocation.ranked import Ranked
from secateur.allocation.uniform import Uniform
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget, BudgetUnreachable, UnknownName
from secateur.testing.allocator import random_scores

SIZES = {"0": 20, "2": 33, "4": 5}
BOTH = pytest.mark.parametrize("kind", [Uniform, Ranked])
HALF = secateur.Budget(macs=0.5)


@pytest.fixture(scope="module")
def net():
    widths = [3, *SIZES.values(), 2]
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    parts = [part for layer in layers for part in (layer, nn.ReLU())]
    return secateur.trace(nn.Sequential(*parts[:-1]), torch.zeros(1, 3))


def widths(g, allocator, budget=None):
    plan = secateur.allocate(g, random_scores(g), budget, allocator=allocator)
    return plan.widths(g)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ({"0": 0.5}, (10, 33, 5)),
        ({"*": 0.5}, (10, 16, 2)),
        ({"[02]": 0.3}, (6, 9, 5)),
        ({"*": 0.5, "2": 1.0}, (10, 33, 2)),  # the last match counts
        ({"2": 1.0, "*": 0.5}, (10, 16, 2)),
        ({"4": 0.01}, (20, 33, 1)),
    ],
)
def test_uniform_keeps_a_fraction_for_each_pattern(net, keep, expected):
    assert tuple(widths(net, Uniform(keep=keep)).values()) == expected


@pytest.mark.parametrize(("keep", "expected"), [({"0": 0.5}, 10), ({"[04]": 0.9, "0": 0.3}, 6), ({"0": 1}, 20)])
def test_ranked_leaves_what_is_told_out_of_the_ranking(net, keep, expected):
    for fraction in (0.8, 0.5, 0.3):
        assert widths(net, Ranked(keep=keep), secateur.Budget(macs=fraction))["0"] == expected


def test_ranked_without_anything_to_rank_is_refused(net):
    with pytest.raises(BudgetUnreachable):
        widths(net, Ranked(keep={"*": 0.9}), HALF)


def test_ranked_with_everything_told_needs_no_ranking(net):
    assert tuple(widths(net, Ranked(keep={"*": 0.5}), HALF).values()) == (10, 16, 2)


def test_what_is_told_may_meet_the_budget_alone(net):
    assert CostModel(net).at(SIZES | {"0": 6}).macs < 0.5 * CostModel(net).dense().macs
    assert widths(net, Ranked(keep={"0": 0.3}), HALF) == SIZES | {"0": 6}


@BOTH
def test_the_highest_scores_of_a_told_group_stay(net, kind):
    scores = random_scores(net)
    budget = HALF if kind is Ranked else None
    plan = secateur.allocate(net, scores, budget, allocator=kind(keep={"2": 0.4}))
    assert plan.kept["2"].tolist() == sorted(scores["2"].argsort(descending=True)[:13].tolist())


def test_ranked_reads_fractions_as_written():
    """0.29 * 100 is 28.999999999999996."""
    net = nn.Sequential(nn.Linear(3, 100), nn.ReLU(), nn.Linear(100, 10), nn.ReLU(), nn.Linear(10, 2))
    g = secateur.trace(net, torch.zeros(1, 3))
    assert widths(g, Uniform(keep={"0": 0.29}))["0"] == 29
    assert widths(g, Ranked(keep={"0": 0.29}), secateur.Budget(macs=0.25))["0"] == 29


@BOTH
@pytest.mark.parametrize("option", [{"keep": {"0": 0.5, "no.*": 0.5}}, {"round_to": {"no.such": 8}}])
def test_a_pattern_that_no_group_matches_is_refused(net, kind, option):
    budget = None if kind is Uniform and "keep" in option else HALF
    with pytest.raises(UnknownName, match="no"):
        widths(net, kind(**option), budget)


SHARES = [0, -0.5, 1.5, float("nan"), float("inf")]


@pytest.mark.parametrize(
    ("kind", "share"),
    [(k, s) for k in (Uniform, Ranked) for s in SHARES],
)
def test_fractions_that_make_no_sense_are_refused(net, kind, share):
    budget = HALF if kind is Ranked else None
    with pytest.raises(BadBudget, match="keep="):
        widths(net, kind(keep={"0": share}), budget)


@BOTH
@pytest.mark.parametrize("multiple", [0, -8, 2.5, float("nan"), {"0": 0}, {"0": 1.5}])
def test_multiples_that_make_no_sense_are_refused(net, kind, multiple):
    with pytest.raises(BadBudget, match="round_to="):
        widths(net, kind(round_to=multiple), HALF)


@BOTH
@pytest.mark.parametrize("multiple", [2, 4, 8])
@pytest.mark.parametrize("fraction", [0.9, 0.5, 0.3])
def test_widths_are_multiples_or_whole(net, kind, multiple, fraction):
    for name, width in widths(net, kind(round_to=multiple), secateur.Budget(macs=fraction)).items():
        assert width == SIZES[name] or width % multiple == 0, name
        assert width >= min(multiple, SIZES[name]), name


@BOTH
def test_a_group_smaller_than_the_multiple_stays_whole(net, kind):
    for fraction in (0.8, 0.5):
        found = widths(net, kind(round_to=8), secateur.Budget(macs=fraction))
        assert found["4"] == 5
        assert found["2"] < 33


@BOTH
def test_multiples_for_each_pattern(net, kind):
    found = widths(net, kind(round_to={"*": 3, "2": 16}), secateur.Budget(macs=0.4))
    assert found["2"] in (16, 32)
    assert found["0"] % 3 == 0
    assert found["4"] in (3, 5)


def test_rounding_goes_down_and_not_below_one_multiple(net):
    assert tuple(widths(net, Uniform(keep=0.55, round_to=4)).values()) == (8, 16, 4)
    assert tuple(widths(net, Uniform(keep=0.01, round_to=4)).values()) == (4, 4, 4)
    assert tuple(widths(net, Uniform(keep=1, round_to=4)).values()) == (20, 33, 5)


@pytest.mark.parametrize("min_keep", [6, 0.3])
def test_rounding_does_not_go_below_min_keep(net, min_keep):
    """All of the first group rank lowest, so that 6 of its 20 are left before any other unit goes."""
    scores = {n: x + (n != "0") for n, x in random_scores(net).items()}
    plan = secateur.allocate(net, scores, HALF, allocator=Ranked(min_keep=min_keep, round_to=4))
    assert plan.widths(net)["0"] >= 6


ASKED = [
    Uniform(round_to=8),
    Uniform(round_to={"*": 2}, per_macs=0.5),
    Ranked(round_to=4),
    Ranked(round_to=8, per_macs=1.0),
    Ranked(round_to=2, min_keep=0.2),
]


@pytest.mark.parametrize("allocator", ASKED, ids=str)
@pytest.mark.parametrize("name", ["digits-vgg", "digits-resnet"])
def test_budgets_are_met_and_nest(allocator, name):
    check_nesting(graph(name), allocator)


@pytest.mark.parametrize("name", ["digits-vgg", "digits-resnet"])
def test_told_widths_meet_budgets_and_nest(name):
    g = graph(name)
    check_nesting(g, Ranked(keep={g.groups[0].name: 0.75}, round_to=2))


def check_nesting(g, allocator):
    """Every budget is met as counted on a cut model, and what a looser one removes a tighter one removes too."""
    scores, dense = random_scores(g), counted(g.model, g.example)
    whole = {x.name: set(range(x.size)) for x in g.groups}
    for field in ("macs", "params"):
        plans = []
        for fraction in (0.9, 0.7, 0.5, 0.35):
            budget = secateur.Budget(**{field: fraction})
            try:
                plans.append(secateur.allocate(g, scores, budget, allocator=allocator))
            except BudgetUnreachable:
                break
            assert getattr(CostModel(g).at(plans[-1].widths(g)), field) <= budget.limits(dense)[field]
        assert len(plans) >= 2
        kept = [whole] + [whole | {n: set(u.tolist()) for n, u in p.kept.items()} for p in plans]
        assert all(tight[n] <= loose[n] for loose, tight in itertools.pairwise(kept) for n in whole)
        assert CostModel(g).at(plans[-1].widths(g)) == counted(secateur.cut(g, plans[-1]).model, g.example)
