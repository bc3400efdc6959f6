"""Predicted latency against tables looked up by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import graph as known
from secateur.cost.cost import CostModel
from secateur.cost.latency import FEATURES, PLAIN, Latency
from secateur.errors import BadBudget, BudgetUnreachable
from secateur.testing.allocator import random_scores
from timed import STAIRS, timed_by


@pytest.fixture(scope="module")
def net():
    return secateur.trace(
        nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5)), torch.zeros(7, 6)
    )


def product(op):
    """In proportion to MACs, as a product of lengths is."""
    return float(np.prod(op.lengths)) * 1e-3


def by_hand(a, b):
    return (7 * 6 * a + 7 * a * b + 7 * b * 5) * 1e-3


@pytest.mark.parametrize(("a", "b"), [(64, 32), (48, 32), (40, 24), (17, 31), (64, 16)])
def test_between_points_it_is_linear_in_each_length(net, a, b):
    found = CostModel(net, timed_by(net, product)).at({"0": a, "2": b})
    assert found.latency_ms == pytest.approx(by_hand(a, b))


def test_below_the_first_point_it_stays(net):
    cost = CostModel(net, timed_by(net, product))
    assert cost.at({"0": 3, "2": 1}).latency_ms == pytest.approx(by_hand(16, 16))


def test_a_staircase(net):
    phases = {("gemm", 2): STAIRS, ("gemm", 3): STAIRS}
    cost = CostModel(net, timed_by(net, product, phases))
    for width in (33, 40, 47, 48):
        assert cost.at({"0": width}).latency_ms == pytest.approx(by_hand(48, 32))
    assert cost.at({"0": 49}).latency_ms == pytest.approx(by_hand(64, 32))


def test_a_width_that_is_slow(net):
    slow = (PLAIN[0], tuple(3.0 if r % 4 else 1.0 for r in range(16)))
    cost = CostModel(net, timed_by(net, product, {("gemm", 3): slow}))
    plain = 7 * 40 * 32 + 7 * 32 * 5
    assert cost.at({"0": 40}).latency_ms == pytest.approx((7 * 6 * 40 + plain) * 1e-3)
    odd = 3 * 7 * 6 * 41 + 7 * 41 * 32 + 7 * 32 * 5  # only the layer whose outputs are odd
    assert cost.at({"0": 41}).latency_ms == pytest.approx(odd * 1e-3)


def test_the_fit_weighs_each_feature(net):
    fit = tuple(float(i + 1) for i in range(len(FEATURES)))
    cost = CostModel(net, timed_by(net, product, fit=fit))
    features = cost.latency_features({"0": 32})
    assert dict(zip(FEATURES, features, strict=True))["gemm"] == pytest.approx(by_hand(32, 32))
    assert features[-1] == pytest.approx(4e-9 * (6 * 32 + 32 + 32 * 32 + 32 + 32 * 5 + 5))
    assert cost.at({"0": 32}).latency_ms == pytest.approx(features @ np.array(fit))


def test_many_at_once_are_the_same_as_each(net):
    cost = CostModel(net, timed_by(net, product))
    options = [1, 16, 17, 33, 64]
    alone = [cost.at({"0": n, "2": 9}).latency_ms for n in options]
    assert cost.along("0", options, {"2": 9}, "latency_ms").tolist() == pytest.approx(alone)
    together = cost.of([{"0": n, "2": 9} for n in options], ["latency_ms", "macs"])
    assert together["latency_ms"].tolist() == pytest.approx(alone)
    assert together["macs"].tolist() == [cost.at({"0": n, "2": 9}).macs for n in options]


def test_a_block_that_is_dropped_takes_its_time_along():
    g = (
        known("digits-resnet", kinds=("depth",))
        if False
        else secateur.trace(Residual(), torch.zeros(2, 16), kinds=("depth",))
    )
    cost = CostModel(g, timed_by(g, product))
    assert cost.dense().latency_ms == pytest.approx(2 * 16 * 16 * 3e-3)
    assert cost.at({g.groups[0].name: 0}).latency_ms == pytest.approx(2 * 16 * 16 * 2e-3)


class Residual(nn.Module):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 16)

        def forward(self, x):
            return x + self.layer(x.relu())

    def __init__(self):
        super().__init__()
        self.blocks, self.head = nn.Sequential(self.Block(), self.Block()), nn.Linear(16, 16)

    def forward(self, x):
        return self.head(self.blocks(x))


def test_tables_of_another_model_are_refused(net):
    with pytest.raises(BadBudget, match="no table of a gemm"):
        CostModel(net, Latency("eager", 1, {}))


def test_latency_that_was_not_measured_is_said(net):
    cost = CostModel(net)
    assert cost.dense().latency_ms is None
    assert "latency_ms" not in cost.dense().as_dict()
    with pytest.raises(BadBudget, match="measure_latency"):
        cost.along("0", [1], {}, "latency_ms")
    with pytest.raises(BadBudget, match="latency_ms=8"):
        secateur.Budget(latency_ms=8).limits(cost.dense())


ALLOCATORS = ["ranked", "uniform", "knapsack"]


@pytest.mark.parametrize("name", ALLOCATORS)
@pytest.mark.parametrize("kept", [0.8, 0.5])
def test_a_budget_of_latency_is_met(net, name, kept):
    latency = timed_by(net, product, {("gemm", 2): STAIRS, ("gemm", 3): STAIRS})
    cost = CostModel(net, latency)
    plan = secateur.allocate(net, random_scores(net), secateur.Budget(latency_ms=kept), allocator=name, latency=latency)
    found = cost.at(plan.widths(net)).latency_ms
    assert 0.2 * kept * cost.dense().latency_ms < found <= kept * cost.dense().latency_ms


def test_ranked_finds_the_first_step_though_a_smaller_model_may_be_slower(net):
    slow = (PLAIN[0], tuple(4.0 if r % 4 else 1.0 for r in range(16)))
    latency = timed_by(net, product, {("gemm", 3): slow, ("gemm", 2): slow})
    budget = secateur.Budget(latency_ms=0.7)
    scores = {g.name: torch.arange(g.size, dtype=torch.float64) + 100 * (g.name == "2") for g in net.groups}
    plan = secateur.allocate(net, scores, budget, latency=latency)
    cost = CostModel(net, latency)
    limit = 0.7 * cost.dense().latency_ms
    wider = [n for n in range(1, 65) if cost.at({"0": n}).latency_ms <= limit]
    assert plan.widths(net) == {"0": max(wider), "2": 32}
    assert cost.at({"0": max(wider) - 1}).latency_ms > limit


def test_widths_that_hardware_likes(net):
    latency = timed_by(net, product, {("gemm", 2): STAIRS, ("gemm", 3): STAIRS})
    for name in ALLOCATORS:
        allocator = secateur.allocators()[name](round_to="auto")
        plan = secateur.allocate(
            net, random_scores(net), secateur.Budget(macs=0.5), allocator=allocator, latency=latency
        )
        assert all(n % 16 == 0 for n in plan.widths(net).values())


def test_out_of_reach_is_said_in_milliseconds(net):
    latency = timed_by(net, product)
    with pytest.raises(BudgetUnreachable, match=r"latency_ms 0.001 asked, at least"):
        secateur.allocate(
            net,
            random_scores(net),
            secateur.Budget(latency_ms=0.001 / CostModel(net, latency).dense().latency_ms),
            latency=latency,
        )


def test_a_cut_states_what_is_predicted(net):
    latency = replace(timed_by(net, product), engine="onnxruntime")
    budget = secateur.Budget(latency_ms=0.5, engine="onnxruntime")
    pruned = secateur.prune(net.model, net.example, budget=budget, latency=latency)
    assert pruned.after.latency_ms <= 0.5 * pruned.before.latency_ms
    assert "ms" in str(pruned.after)
    assert json.dumps(pruned.after.as_dict())
