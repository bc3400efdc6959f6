"""Constant folding: channels that are constant go without a trace, where no padding interferes."""

import copy

import pytest
import torch
from torch import nn

import secateur
from held import batches
from nets import Head, conv_bn, fill, graph, images
from secateur.cost.cost import CostModel
from secateur.errors import NeedsData, SurgeryError
from secateur.groups.plan import Fold, Keep, Plan
from secateur.methods.slimming import Slimming
from secateur.surgery.fold import fold_means, seen_means

DEAD = [1, 4]


class Chain(nn.Module):
    """A writer with batch norm, and two readers: one with a bias, one with a batch norm behind it."""

    def __init__(self, padding, act=nn.ReLU):
        super().__init__()
        self.writer, self.norm, self.act = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), act()
        self.biased = nn.Conv2d(6, 5, 3, padding=padding)
        self.normed, self.after = nn.Conv2d(6, 5, 3, padding=padding, bias=False), nn.BatchNorm2d(5)

    def forward(self, x):
        x = self.act(self.norm(self.writer(x)))
        return self.biased(x), self.after(self.normed(x))


def dead(net):
    """Scales of zero and shifts that are not: the channels are act(beta), everywhere."""
    net = fill(net).double()
    net.norm.weight.data[DEAD] = 0
    net.norm.bias.data[DEAD] = torch.tensor([0.7, 1.3], dtype=torch.float64)
    return net.eval()


def pruned_by_slimming(net, example, *, folds=True):
    g = secateur.trace(net, example)
    data = [(x, None) for x in (images(3, 1, 9, 9).double(), example)]
    scores = secateur.score(g, "bn-scale")
    assert sorted(scores["writer"].argsort()[:2].tolist()) == DEAD
    budget = secateur.Budget(macs=float(CostModel(g).at({"writer": 4}).macs))
    return secateur.cut(g, Slimming(folds=folds).plan(g, budget, batches=data))


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.SiLU])
def test_without_padding_the_output_is_the_same(act):
    net, x = dead(Chain(0, act)), images(2, 1, 9, 9).double()
    small = pruned_by_slimming(net, x).model
    assert small.writer.out_channels == 4
    for a, b in zip(net(x), small(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_with_padding_the_interior_is_the_same():
    """The padding belongs to the op, not to what it reads: the mean is the constant, and only the border differs."""
    net, x = dead(Chain(1)), images(2, 1, 9, 9).double()
    small = pruned_by_slimming(net, x).model
    for a, b in zip(net(x), small(x), strict=True):
        torch.testing.assert_close(a[..., 1:-1, 1:-1], b[..., 1:-1, 1:-1], rtol=1e-12, atol=1e-12)
        assert (a[..., 0, 0] - b[..., 0, 0]).abs().max() > 1e-3


def test_the_reference_behaviour_drops_the_constant():
    net, x = dead(Chain(0)), images(2, 1, 9, 9).double()
    small = pruned_by_slimming(net, x, folds=False).model
    assert (net(x)[0] - small(x)[0]).abs().max() > 0.1


def test_what_is_folded_by_hand():
    net, x = dead(Chain(0)), images(2, 1, 9, 9).double()
    g = secateur.trace(net, x)
    plan = fold_means(g, Plan.keeping(g, {"writer": [0, 2, 3, 5]}), [x])
    folds = {f.reader: f for f in plan.folds}
    assert set(folds) == {"biased.weight", "normed.weight"}
    assert folds["biased.weight"].units == tuple(DEAD)
    torch.testing.assert_close(torch.tensor(folds["biased.weight"].constants), torch.tensor([[0.7], [1.3]]))
    small = secateur.cut(g, plan).model
    constant = torch.tensor([0.7, 1.3], dtype=torch.float64)
    gain = net.biased.weight[:, DEAD].sum((2, 3)) @ constant
    torch.testing.assert_close(small.biased.bias, net.biased.bias + gain)
    lost = net.normed.weight[:, DEAD].sum((2, 3)) @ constant
    torch.testing.assert_close(small.after.running_mean, net.after.running_mean - lost)


def test_seen_means_are_means_over_batches_of_any_size():
    net, x = dead(Chain(0)), images(5, 1, 9, 9).double()
    g = secateur.trace(net, x[:1])
    whole = seen_means(g, net, [x])
    parts = seen_means(g, net, [x[:1], x[1:3], x[3:]])
    for i in whole:
        torch.testing.assert_close(whole[i], parts[i])
    read = net.act(net.norm(net.writer(x)))
    torch.testing.assert_close(whole[1], read.mean((0, 2, 3)).detach())


def test_flattened_channels_fold_one_constant_a_position():
    g = graph("flat")
    plan = fold_means(g, Plan.keeping(g, {"two": [0, 1, 3]}), [x for x, _ in batches(g.example)])
    fold = next(f for f in plan.folds if f.reader == "hidden.weight")
    assert fold.units == (2, 4)
    assert [len(c) for c in fold.constants] == [16, 16]
    secateur.cut(g, plan)


def test_mean_folding_brings_the_output_nearer():
    g = graph("digits-vgg")
    inputs = [x for x, _ in batches(g.example, 4)]
    plan = secateur.allocate(g, secateur.score(g, "l2"), secateur.Budget(macs=0.5))
    dropped, folded = (secateur.cut(g, p).model.eval() for p in (plan, fold_means(g, plan, inputs)))
    whole = copy.deepcopy(g.model).eval()
    with torch.no_grad():
        target = whole(inputs[0])
        assert (folded(inputs[0]) - target).norm() < 0.7 * (dropped(inputs[0]) - target).norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_folding_in_every_precision(dtype):
    g = graph("padded")
    x = g.example.to(dtype)
    g = secateur.trace(copy.deepcopy(g.model).to(dtype), x)
    plan = Plan.keeping(g, {"stem.0": [0, 1, 2], "a.0": list(range(5))})
    small = secateur.cut(g, fold_means(g, plan, [x])).model
    assert {p.dtype for p in small.parameters()} == {dtype}


def test_no_batches():
    g = graph("padded")
    with pytest.raises(NeedsData, match="folding needs batches"):
        fold_means(g, Plan.keeping(g, {"a.0": [0]}), [])


def test_a_layer_used_twice_cannot_be_folded_into():
    g = graph("twice")
    fold = Fold(group="stem", reader="again.0.weight", units=(6,), constants=((0.5,),))
    with pytest.raises(SurgeryError, match="used 2 times"):
        secateur.cut(g, Plan(edits=(Keep(group="stem", units=(0, 1)), fold)))


def test_a_transposed_reader_cannot_be_folded_into():
    net = nn.Sequential(conv_bn(1, 6), nn.ConvTranspose2d(6, 4, 2, stride=2), nn.ReLU(), Head(4))
    g = secateur.trace(fill(net), images(2, 1, 8, 8))
    with pytest.raises(SurgeryError, match="transposed convolution"):
        secateur.cut(g, fold_means(g, Plan.keeping(g, {"0.0": [0, 1]}), [g.example]))
