"""GraSP for units against whole Hessians, and against what removal does to the gradient's norm."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from gated import assert_close, data, filled, traced
from nets import fill, graph, images
from secateur.testing import check_criterion

X, Y = images(6, 4).double(), torch.arange(6) % 3


@pytest.fixture
def net():
    """Every weight belongs to one unit alone: rows of the first layer, columns of the second."""
    return fill(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))).double().eval()


def flow(net, x=X, y=Y):
    """Weight -> -theta * (H g), by the whole Hessian over all weights of two axes."""
    names = [n for n, p in net.named_parameters() if p.dim() > 1]
    held = [net.get_parameter(n).detach() for n in names]
    sizes = [t.numel() for t in held]

    def f(flat):
        parts = [t.reshape(h.shape) for t, h in zip(flat.split(sizes), held, strict=True)]
        return F.cross_entropy(torch.func.functional_call(net, dict(zip(names, parts, strict=True)), (x,)), y)

    theta = torch.cat([h.reshape(-1) for h in held])
    g = torch.autograd.functional.jacobian(f, theta)
    s = -theta * (torch.autograd.functional.hessian(f, theta) @ g)
    return {n: t.reshape(h.shape) for n, t, h in zip(names, s.split(sizes), held, strict=True)}, g


def test_the_score_is_minus_the_sum_over_the_slices_of_a_unit(net):
    s, _ = flow(net)
    scores = secateur.score(secateur.trace(net, X), "grasp", batches=[(X, Y)])["0"]
    assert_close(scores, -(s["0.weight"].sum(1) + s["2.weight"].sum(0)))


def test_all_scores_add_up_to_the_curvature_along_weights_and_gradient(net):
    """Sum of s = -theta' H g."""
    s, _ = flow(net)
    scores = secateur.score(secateur.trace(net, X), "grasp", batches=[(X, Y)])["0"]
    assert_close(scores.sum(), -sum(t.sum() for t in s.values()))


def test_streams_and_norms():
    """Two layers write the stream and two read it; norms and biases count as fixed."""
    net, (x, y) = filled(act=nn.Tanh()), data()[0]
    s, _ = flow(net, x, y)
    scores = secateur.score(traced(net), "grasp", batches=[(x, y)])
    assert_close(scores["one"], -(s["one.weight"].sum((1, 2, 3)) + s["two.weight"].sum((0, 2, 3))))
    rows = s["stem.weight"].sum((1, 2, 3)) + s["two.weight"].sum((1, 2, 3))
    assert_close(scores["stem"], -(rows + s["one.weight"].sum((0, 2, 3)) + s["head.weight"].sum(0)))


def squared_gradient(net):
    gradients = torch.autograd.grad(F.cross_entropy(net(X), Y), [net[0].weight, net[2].weight])
    return sum(g.square().sum() for g in gradients)


def without(net, unit, by=1.0):
    """The weights of a unit made smaller; biases stay."""
    net = copy.deepcopy(net)
    net[0].weight.data[unit] *= 1 - by
    net[2].weight.data[:, unit] *= 1 - by
    return net


def test_it_is_half_the_first_order_loss_of_squared_gradient(net):
    """|g|^2 changes by 2 s for removing s: as a finite difference of shrinking the unit."""
    scores = secateur.score(secateur.trace(net, X), "grasp", batches=[(X, Y)])["0"]
    step = 1e-5
    for k in range(5):
        change = squared_gradient(without(net, k, step)) - squared_gradient(without(net, k, -step))
        torch.testing.assert_close(scores[k], -(change / (2 * step)).detach() / 2, rtol=1e-6, atol=1e-10)


def test_what_goes_first_keeps_most_of_the_gradient(net):
    """The sign: the unit with the lowest score is the one whose removal leaves the largest gradient."""
    weights = net[0].weight.data, net[2].weight.data
    weights[0].mul_(0.2), weights[1].mul_(0.2)  # so that the first order decides
    scores = secateur.score(secateur.trace(net, X), "grasp", batches=[(X, Y)])["0"]
    left = torch.stack([squared_gradient(without(net, k)).detach() for k in range(5)])
    assert scores.argmin() == left.argmax()
    assert scores.argmax() == left.argmin()


def test_batches_add_up(net):
    batches = [(X[:3], Y[:3]), (X[3:], Y[3:])]
    scores = secateur.score(secateur.trace(net, X), "grasp", batches=batches)["0"]
    each = [secateur.score(secateur.trace(net, X), "grasp", batches=[b])["0"] for b in batches]
    assert_close(scores, torch.stack(each).mean(0))


def test_a_weight_that_writes_what_it_reads_counts_once():
    """Elements at a unit's row and column at once go once."""
    g = graph("tied")
    batches = [(g.example, torch.tensor([1, 2]))]
    found = secateur.collect(g, "grasp", batches=batches).values["curvature"]
    s = {n: (g.model.get_parameter(n).detach() * f["flow"]).double() for n, f in found.items() if "flow" in f}
    square = s["b.weight"]
    expected = s["a.weight"].sum(1) + square.sum(1) + square.sum(0) - square.diagonal() + s["d.weight"].sum(0)
    torch.testing.assert_close(secateur.score(g, "grasp", batches=batches)["a"], expected, rtol=1e-5, atol=1e-8)


def test_it_prunes(net):
    pruned = secateur.prune(net, X, budget=secateur.Budget(macs=0.5), criterion="grasp", batches=[(X, Y)])
    assert pruned.after.macs <= 0.5 * pruned.before.macs


def test_the_contract():
    check_criterion("grasp")
