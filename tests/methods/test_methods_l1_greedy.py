"""Greedy L1: sums over the inputs that are still there, layer by layer."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import graph
from secateur.allocation.uniform import Uniform
from secateur.methods.l1_filter import L1Filter
from secateur.methods.l1_greedy import L1Greedy
from secateur.methods.order import in_order
from secateur.testing import check_method

HALF = secateur.Budget(macs=0.5)


def chain(first, second):
    net = nn.Sequential(nn.Linear(first.shape[1], len(first), bias=False), nn.ReLU())
    net += nn.Sequential(nn.Linear(len(first), len(second), bias=False), nn.ReLU(), nn.Linear(len(second), 2))
    for i, weight in ((0, first), (2, second)):
        net[i].weight.data = weight
    return secateur.trace(net, torch.zeros(1, first.shape[1]))


def test_a_filter_whose_mass_sits_in_removed_inputs():
    """Of four inputs the last two go; filter 0 of the second layer is the largest, but hangs on those."""
    first = torch.tensor([[5.0], [5.0], [1.0], [1.0]])
    second = torch.tensor([[0.1, 0.1, 9.0, 9.0], [2.0, 2.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    g = chain(first, second)
    independent, greedy = (m.plan(g, HALF).kept for m in (L1Filter(), L1Greedy()))
    assert independent["0"].tolist() == greedy["0"].tolist() == [0, 1]
    assert independent["2"].tolist() == [0, 1]
    assert greedy["2"].tolist() == [1, 3]


def test_a_chain_by_numpy():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(12, 5, generator=generator), torch.randn(15, 12, generator=generator).exp()]
    g = chain(*weights)
    plan = L1Greedy().plan(g, HALF)
    first, second = (np.abs(w.numpy().astype(float)) for w in weights)
    widths = plan.widths(g)
    kept = np.sort(np.argsort(-first.sum(1))[: widths["0"]])
    assert plan.kept["0"].tolist() == kept.tolist()
    assert plan.kept["2"].tolist() == sorted(np.argsort(-second[:, kept].sum(1))[: widths["2"]].tolist())
    assert plan.kept["2"].tolist() != L1Filter().plan(g, HALF).kept["2"].tolist()


@pytest.mark.parametrize("name", ["plain", "flat", "concat", "grouped", "digits-vgg", "digits-resnet"])
@pytest.mark.parametrize("per_macs", [0.0, 0.5])
def test_widths_are_those_of_the_independent_plan(name, per_macs):
    g, budget = graph(name), secateur.Budget(params=0.6)
    assert L1Greedy(per_macs=per_macs).plan(g, budget).widths(g) == L1Filter(per_macs=per_macs).plan(g, budget).widths(
        g
    )
    assert L1Greedy(per_macs=per_macs).allocator == Uniform(per_macs=per_macs)


@pytest.mark.parametrize("name", ["concat", "flat", "grouped", "transposed", "digits-resnet"])
def test_sums_are_over_inputs_that_are_kept(name):
    """On a copy of the model that was really cut in the groups before: its own L1 ranking gives the units."""
    g = graph(name)
    plan = L1Greedy().plan(g, secateur.Budget(params=0.6))
    groups = in_order(g)
    for i, group in enumerate(groups):
        before = secateur.Plan.keeping(g, {x.name: plan.kept[x.name] for x in groups[:i] if x.name in plan.kept})
        small = secateur.trace(secateur.cut(g, before).model, g.example)
        scores = secateur.score(small, "l1")[group.name]
        best = scores.argsort(descending=True)[: plan.widths(g)[group.name]]
        assert plan.kept.get(group.name, np.arange(group.size)).tolist() == sorted(best.tolist())


class Backwards(nn.Module):
    """Registered last to first."""

    def __init__(self):
        super().__init__()
        self.z, self.y, self.x = nn.Linear(12, 2), nn.Linear(10, 12, bias=False), nn.Linear(5, 10, bias=False)

    def forward(self, t):
        return self.z(self.y(self.x(t).relu()).relu())


@pytest.mark.parametrize("seed", range(4))
def test_layers_count_in_the_order_they_run(seed):
    net, generator = Backwards(), torch.Generator().manual_seed(seed)
    for layer in (net.x, net.y):
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator).exp()
    g = secateur.trace(net, torch.randn(2, 5))
    assert [group.name for group in g.groups] == ["y", "x"]
    plan = L1Greedy().plan(g, secateur.Budget(macs=0.4))
    x, y = (layer.weight.detach().numpy().astype(float) for layer in (net.x, net.y))
    widths = plan.widths(g)
    kept = np.sort(np.argsort(-x.sum(1))[: widths["x"]])
    assert plan.kept["x"].tolist() == kept.tolist()
    assert plan.kept["y"].tolist() == sorted(np.argsort(-y[:, kept].sum(1))[: widths["y"]].tolist())


def test_nothing_removed_before_means_nothing_changes():
    g = graph("mlp")
    first = g.groups[0].name
    greedy, independent = (m.plan(g, HALF).kept[first].tolist() for m in (L1Greedy(), L1Filter()))
    assert greedy == independent


def test_the_model_is_left_as_it_is():
    g = graph("digits-resnet")
    before = {n: t.clone() for n, t in g.model.state_dict().items()}
    L1Greedy().plan(g, HALF)
    assert all(torch.equal(t, before[n]) for n, t in g.model.state_dict().items())


def test_the_contract():
    check_method("l1-greedy")
