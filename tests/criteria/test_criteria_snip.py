"""SNIP for units against the paper's formula for weights, closed forms, and where a gate must stand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from gated import assert_close, data, filled, gate_gradients, traced, weight_gradients
from nets import fill, images
from secateur.testing import check_criterion


@pytest.mark.parametrize("norm", [True, False])
def test_the_score_is_the_size_of_the_gradient_of_a_gate(norm):
    """Of the stream, one gate for both layers that write it; over batches, the gradients add up before their size."""
    net = filled(norm=norm)
    scores = secateur.score(traced(net), "snip", batches=data())
    for name, gradients in gate_gradients(net, data()).items():
        assert_close(scores[name], gradients.mean(0).abs())


def test_batches_are_as_one_large_batch():
    net = filled()
    x, y = (torch.cat(t) for t in zip(*data(), strict=True))
    split, whole = (secateur.score(traced(net), "snip", batches=b)["one"] for b in (data(), [(x, y)]))
    assert_close(split, whole)


def test_batches_that_pull_in_opposite_directions_cancel():
    """The size is taken last."""
    net = fill(nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 1, bias=False))).double()
    x = images(2, 3).double()
    batches, graph = [(x, None), (-x, None)], secateur.trace(net, x)
    assert secateur.score(graph, "snip", batches=batches, loss=lambda y, _: y.sum())["0"].max() < 1e-15
    assert secateur.score(graph, "taylor", batches=batches, loss=lambda y, _: y.sum())["0"].min() > 1e-6


def test_a_unit_of_one_weight_has_the_sensitivity_of_that_weight():
    """|w * dL/dw|; and with the paper's divisor the sensitivities of a network sum to 1."""
    net = fill(nn.Sequential(nn.Linear(1, 5, bias=False), nn.ReLU(), nn.Linear(5, 3))).double()
    x, y = images(4, 1).double(), torch.arange(4) % 3
    graph = secateur.trace(net, x)
    scores = secateur.score(graph, "snip", batches=[(x, y)])["0"]
    product = (net[0].weight.detach() * weight_gradients(net, x, y)["0.weight"]).abs()
    assert_close(scores, product[:, 0])
    assert_close((scores / scores.sum()).sum(), torch.tensor(1.0, dtype=torch.float64))
    assert_close(scores / scores.sum(), product[:, 0] / product.sum())


def test_a_linear_net_with_a_squared_loss():
    """y = V U x: dL/dc_k = sum over outputs and examples of (y - t) V_k (U x)_k."""
    net = fill(nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 3, bias=False))).double()
    x, t = images(5, 4).double(), images(5, 3).double()
    scores = secateur.score(
        secateur.trace(net, x), "snip", batches=[(x, t)], loss=lambda y, t: (y - t).square().sum() / 2
    )["0"]
    u, v = net[0].weight.detach(), net[1].weight.detach()
    residual = x @ u.T @ v.T - t
    assert_close(scores, torch.einsum("no,ok,nk->k", residual, v, x @ u.T).abs())


def test_without_a_norm_the_gate_is_the_sum_over_the_weights_that_read():
    """Sum of w * dL/dw over a unit's column of the next layer, as over its own row and bias."""
    net, (x, y) = filled(norm=False), data()[0]
    scores = secateur.score(traced(net), "snip", batches=[(x, y)])["one"]
    gradient = weight_gradients(net, x, y)
    column = (net.two.weight.detach() * gradient["two.weight"]).sum((0, 2, 3))
    row = (net.one.weight.detach() * gradient["one.weight"]).sum((1, 2, 3)) + net.one.bias.detach() * gradient[
        "one.bias"
    ]
    assert_close(scores, column.abs())
    assert_close(row.abs(), column.abs())


def test_a_gate_in_front_of_a_norm_in_training_mode_is_dead():
    class Before(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x, z):
            n = self.net
            x = n.act(n.n0(n.stem(x)))
            y = n.act(n.n1(n.one(x) * z[:, None, None]))
            return n.head(n.act(x + n.n2(n.two(y))).mean((2, 3)))

    net, (x, y) = filled(), data()[0]
    net.n1.eps = 1e-13
    ours = secateur.score(traced(net), "snip", batches=[(x, y)])["one"]
    z = torch.ones(4, dtype=torch.float64, requires_grad=True)
    in_training = torch.autograd.grad(F.cross_entropy(Before(net.train())(x, z), y), z)[0]
    assert in_training.abs().max() < 1e-9 * ours.min()


def test_it_prunes_to_a_few_percent_in_steps():
    """Fifty times smaller, scored anew after each step; every group keeps a unit."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *[m for n in ((8, 64), (64, 64), (64, 64)) for m in (nn.Linear(*n), nn.ReLU())], nn.Linear(64, 4)
    )
    x, y = torch.randn(32, 8), torch.arange(32) % 4
    pruned = net
    for kept in (0.5, 0.2, 0.06, 0.02):
        total = sum(p.numel() for p in net.parameters())
        pruned = secateur.prune(
            pruned, x, budget=secateur.Budget(params=int(kept * total)), criterion="snip", batches=[(x, y)]
        )
    assert pruned.after.params <= 0.02 * total
    assert pruned.model(x).shape == (32, 4)


def test_the_contract():
    check_criterion("snip")
