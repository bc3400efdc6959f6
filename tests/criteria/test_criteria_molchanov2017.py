"""Taylor scores of activations against the average over positions, example by example."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import fill, images
from secateur.testing import check_criterion


class Maps(nn.Module):
    """One group of five feature maps of 4 x 4; what reads them reads each position once."""

    def __init__(self):
        super().__init__()
        self.conv, self.read = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(5, 3, 1)

    def maps(self, x):
        return self.conv(x).relu()

    def forward(self, x):
        return self.read(self.maps(x)).flatten(1)


@pytest.fixture
def net():
    return fill(Maps()).double().eval()


X, Y = images(6, 1, 4, 4).double(), torch.arange(6)
BATCHES = [(X[:4], Y[:4]), (X[4:], Y[4:])]


def terms(net, loss=F.cross_entropy):
    """(examples, maps): mean over positions of dC/dz * z, each example on its own."""
    found = []
    for x, y in zip(X, Y, strict=True):
        z = net.maps(x[None]).detach().requires_grad_()
        loss(net.read(z).flatten(1), y[None]).backward()
        found.append((z.grad * z).mean((2, 3))[0].detach())
    return torch.stack(found)


def test_the_score_is_the_mean_over_examples_of_absolute_means(net):
    scores = secateur.score(secateur.trace(net, X), "taylor-activation", batches=BATCHES)["conv"]
    theta = terms(net).abs().mean(0)
    torch.testing.assert_close(scores, theta / theta.square().sum().sqrt(), rtol=1e-9, atol=0)
    signed = terms(net).mean(0).abs()  # another criterion: examples that disagree would cancel
    assert ((signed / signed.norm() - scores).abs() > 0.01).any()


def test_a_map_of_zeros_scores_zero(net):
    net.conv.weight.data[2], net.conv.bias.data[2] = 0, -1
    scores = secateur.score(secateur.trace(net, X), "taylor-activation", batches=BATCHES)["conv"]
    assert scores[2] == 0
    assert (scores[[0, 1, 3, 4]] > 0).all()


def test_every_layer_has_norm_one():
    net = fill(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))).double()
    scores = secateur.score(
        secateur.trace(net, images(2, 4).double()), "taylor-activation", batches=[(images(4, 4).double(), Y[:4] % 3)]
    )
    assert len(scores) == 2
    for values in scores.values():
        assert abs(values.norm().item() - 1) < 1e-12
        assert (values >= 0).all()


def test_where_the_loss_is_linear_it_is_the_change_when_all_positions_go(net):
    """One example at a time: |C - C without the map| = positions * |mean of dC/dz * z|."""

    def loss(output, _):
        return (output * torch.linspace(-1, 2, output.shape[1], dtype=output.dtype)).sum()

    graph = secateur.trace(net, X)
    changes = []
    with torch.no_grad():
        for k in range(5):
            small = secateur.cut(graph, secateur.Plan.keeping(graph, {"conv": [u for u in range(5) if u != k]})).model
            each = [(loss(net(x[None]), None) - loss(small.eval()(x[None]), None)).abs() for x in X]
            changes.append(torch.stack(each).mean())
    theta = torch.stack(changes) / 16
    batches = [(x[None], None) for x in X]
    scores = secateur.score(graph, "taylor-activation", batches=batches, loss=loss)["conv"]
    torch.testing.assert_close(scores, theta / theta.norm(), rtol=1e-9, atol=0)


def test_batches_may_be_cut_anywhere(net):
    graph = secateur.trace(net, X)
    ours, theirs = (secateur.score(graph, "taylor-activation", batches=b)["conv"] for b in (BATCHES, [(X, Y)]))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)


def test_a_layer_that_nothing_reaches_scores_zero_throughout(net):
    net = copy.deepcopy(net)
    net.read.weight.data.zero_()
    scores = secateur.score(secateur.trace(net, X), "taylor-activation", batches=BATCHES)["conv"]
    assert torch.equal(scores, torch.zeros(5, dtype=torch.float64))


def test_the_contract():
    check_criterion("taylor-activation")
