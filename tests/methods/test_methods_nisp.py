"""Joint propagation: what goes in one layer carries nothing to the layers before."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import fill, graph, images
from secateur.allocation.uniform import Uniform
from secateur.criteria.nisp import NISP
from secateur.errors import BadBudget, BadModel, NeedsData
from secateur.methods.nisp import JointNISP, _from_the_last
from secateur.testing import check_method


def test_three_layers_by_hand():
    """Unit 0 of the first layer is heard by unit 1 of the second alone, which goes."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double().eval()
    with torch.no_grad():
        for layer, weight in ((0, [[1, 0], [0, 1]]), (2, [[0, 1], [10, 0]]), (4, [[3.0, 2.0]])):
            net[layer].weight.copy_(torch.tensor(weight))
            net[layer].bias.zero_()
    x = torch.tensor([[0.1, 1.0], [0.1, 1.0]]).double()  # so that both final features are 1
    g = secateur.trace(net, x)
    data, budget = [(x, None)], secateur.Budget(macs=0.5)
    scores = secateur.score(g, "nisp", batches=data)
    assert [scores[n].argmax().item() for n in ("2", "0")] == [0, 0]  # 3 > 2, and 10 * 2 > 1 * 3
    alone = secateur.allocate(g, scores, budget, allocator="uniform")
    assert alone.kept["0"].tolist() == [0]
    joint = JointNISP().plan(g, budget, batches=data)
    assert joint.kept["2"].tolist() == [0]
    assert joint.kept["0"].tolist() == [1]  # the one that the unit that stays can hear
    assert secateur.cut(g, joint).model(x).abs().min() > 0
    assert secateur.cut(g, alone).model(x).abs().max() == 0


def by_loops(net, s, widths):
    """Layer by layer in a chain of linear layers, with the scores of what goes set to 0."""
    kept, layers = {}, [m for m in net if isinstance(m, nn.Linear)]
    for number in range(len(layers) - 1, 0, -1):
        name = str(2 * (number - 1))
        kept[name] = sorted(np.argsort(-s, kind="stable")[: widths[name]].tolist())
        s = np.where(np.isin(np.arange(len(s)), kept[name]), s, 0)
        s = np.abs(layers[number - 1].weight.detach().numpy()).T @ s
    return kept


@pytest.mark.parametrize("final", ["mean", "inf-fs"])
@pytest.mark.parametrize("seed", range(4))
def test_a_chain_by_loops(seed, final):
    net = [m for i, o in ((5, 9), (9, 8), (8, 7), (7, 6)) for m in (nn.Linear(i, o), nn.ReLU())]
    net = fill(nn.Sequential(*net, nn.Linear(6, 3)), seed).double().eval()
    x = images(12, 5).double()
    g, data, budget = secateur.trace(net, x), [(x, None)], secateur.Budget(macs=0.4)
    criterion = NISP(final=final)
    s = secateur.collect(g, criterion, batches=data).of(criterion.kind, "8.weight")["responses"].numpy()
    plan = JointNISP(final=final).plan(g, budget, batches=data)
    assert {n: units.tolist() for n, units in plan.kept.items()} == by_loops(net, s, plan.widths(g))


def test_groups_come_from_the_last_to_the_first():
    """A stream is read before and behind the layers of its blocks: it comes after them."""
    g = graph("digits-resnet")
    order = _from_the_last(g)
    assert set(order) == {x.name for x in g.groups}
    assert order.index("layer2.0.conv1") < order.index("layer1.0.conv1")
    assert order[-1] == g.groups[0].name


def test_widths_are_those_of_the_same_fraction_of_every_group():
    g = graph("digits-resnet")
    data = [(images(6, *g.example.shape[1:]), None)]
    budget = secateur.Budget(macs=0.5)
    for power in (0.0, 0.5):
        plan = JointNISP(per_macs=power).plan(g, budget, batches=data)
        scores = secateur.score(g, "nisp", batches=data)
        assert plan.widths(g) == secateur.allocate(g, scores, budget, allocator=Uniform(per_macs=power)).widths(g)
        assert secateur.cut(g, plan).check.max_error < 1e-6


def test_what_cannot_be_asked_for():
    g = graph("plain")
    with pytest.raises(NeedsData):
        JointNISP().plan(g, secateur.Budget(macs=0.5))
    with pytest.raises(BadBudget):
        JointNISP().plan(g, None, batches=[(g.example, None)])
    squeeze = graph("squeeze")
    with pytest.raises(BadModel, match="no linear surrogate"):
        JointNISP().plan(squeeze, secateur.Budget(macs=0.5), batches=[(squeeze.example, None)])


def test_the_contract():
    check_method("nisp")
    check_method(JointNISP(norms="scaled"))
