"""Quickest: plans that use the budget up, at the least predicted latency."""

import itertools

import pytest
import torch
from torch import nn

import secateur
from secateur.allocation.quickest import Quickest
from secateur.allocation.ranked import Ranked
from secateur.allocation.uniform import Uniform
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget, BudgetUnreachable, NothingToDo
from secateur.testing.allocator import random_scores
from timed import STAIRS, timed_by

HALF = secateur.Budget(macs=0.5)


@pytest.fixture(scope="module")
def net():
    sizes = [6, 64, 96, 48, 5]
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return secateur.trace(nn.Sequential(*layers[:-1]), torch.zeros(7, 6))


@pytest.fixture(scope="module")
def latency(net):
    """The second layer takes ten times as long for its MACs as the others."""

    def ms(op):
        slow = 10 if (op.lengths[2:] and op.lengths[3] > 64) or op.lengths[2] == 6 else 1
        return slow * float(torch.tensor(op.lengths).prod()) * 1e-3

    return timed_by(net, ms, {("gemm", 2): STAIRS, ("gemm", 3): STAIRS})


def latencies(net, latency, allocator, budget=HALF):
    plan = secateur.allocate(net, random_scores(net), budget, allocator=allocator, latency=latency)
    found = CostModel(net, latency).at(plan.widths(net))
    return found.latency_ms, found.macs, plan


@pytest.mark.parametrize("fraction", [0.8, 0.5, 0.3])
def test_no_other_is_quicker_and_uses_the_budget_as_well(net, latency, fraction):
    budget = secateur.Budget(macs=fraction)
    limit = fraction * CostModel(net).dense().macs
    ms, macs, plan = latencies(net, latency, Quickest(), budget)
    assert macs <= limit
    for other in (Ranked, Uniform):
        theirs, used, _ = latencies(net, latency, other(round_to="auto"), budget)
        assert ms <= theirs or used < 0.97 * limit
    assert all(width % 16 == 0 for width in plan.widths(net).values())


def test_latency_of_a_budget_holds_too(net, latency):
    dense = CostModel(net, latency).dense().latency_ms
    ms, macs, _ = latencies(net, latency, Quickest(spare=0.5), secateur.Budget(macs=0.6, latency_ms=0.4))
    assert ms <= 0.4 * dense
    assert macs <= 0.6 * CostModel(net).dense().macs


def test_the_same_call_gives_the_same_plan(net, latency):
    assert latencies(net, latency, Quickest())[2] == latencies(net, latency, Quickest())[2]


def test_bounds_are_kept(net, latency):
    plan = latencies(net, latency, Quickest(min_keep=20, max_keep={"2": 64}))[2]
    assert min(plan.widths(net).values()) >= 20
    assert plan.widths(net)["2"] <= 64


def test_what_it_refuses(net, latency):
    for budget, error, said in (
        (None, BadBudget, "needs one beside latency"),
        (secateur.Budget(latency_ms=0.5), BadBudget, "needs one beside latency"),
        (secateur.Budget(macs=1e-9), BudgetUnreachable, "at least"),
        (secateur.Budget(macs=1e12), NothingToDo, "nothing to do"),
    ):
        with pytest.raises(error, match=said):
            latencies(net, latency, Quickest(), budget)
    with pytest.raises(BadBudget, match=r"spare=1\.5"):
        Quickest(spare=1.5)
    with pytest.raises(BadBudget, match="goes by latency"):
        Quickest().allocate(net, random_scores(net), CostModel(net), HALF)
