"""Fisher scores: gradients of gates, example by example, against real gates."""

import torch
import torch.nn.functional as F
from torch import nn

import secateur
from gated import SIZES, assert_close, data, filled, gate_gradients, traced
from nets import fill, images
from secateur.testing import check_criterion


def singles(batches):
    return [(x[None], y[None]) for xs, ys in batches for x, y in zip(xs, ys, strict=True)]


def test_the_score_is_the_mean_square_of_gradients_of_single_examples():
    """ReLU, so that a gate in front of it is one behind it; the stream has two writers and two readers."""
    net = filled()
    scores = secateur.score(traced(net), "fisher", batches=data())
    for name, gradients in gate_gradients(net, singles(data())).items():
        assert_close(scores[name], gradients.square().mean(0))


def test_batches_of_one_give_the_taylor_score():
    net = filled()
    fisher, taylor = (secateur.score(traced(net), c, batches=singles(data()))["one"] for c in ("fisher", "taylor"))
    assert_close(fisher, taylor)


def test_the_square_of_a_mean_is_never_more():
    """Jensen: what examples disagree on is lost in the gradient of a batch."""
    net = filled()
    fisher, taylor = (secateur.score(traced(net), c, batches=data())["one"] for c in ("fisher", "taylor"))
    assert (taylor <= fisher).all()
    assert (taylor < 0.9 * fisher).any()


def test_two_examples_that_cancel_are_still_seen():
    net = fill(nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 1, bias=False))).double()
    x = images(1, 3).double()
    batches = [(torch.cat([x, -x]), None)]  # of a loss that is the output itself, gradients are opposite
    graph = secateur.trace(net, x)
    loss = lambda output, _: output.mean()  # noqa: E731
    gates = (net[0](x) * net[1].weight).detach()[0]
    assert_close(secateur.score(graph, "fisher", batches=batches, loss=loss)["0"], gates.square())
    assert secateur.score(graph, "taylor", batches=batches, loss=loss)["0"].max() < 1e-30


def test_at_a_minimum_of_a_likelihood_it_is_twice_the_change_of_the_loss():
    """A Gaussian likelihood whose residuals are as large as it says: Fisher information and Hessian agree."""
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 1, bias=False)).double()
    net[0].weight.data.copy_(torch.eye(3))
    net[1].weight.data.copy_(torch.tensor([[0.7, -0.2, 1.1]]))
    x = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    y = net(x).detach() + torch.tensor([1.0] * 3 + [-1.0] * 3, dtype=torch.float64)[:, None]
    loss = lambda output, target: (output - target).square().mean() / 2  # noqa: E731
    graph = secateur.trace(net, x)
    scores = secateur.score(graph, "fisher", batches=[(x, y)], loss=loss)["0"]
    for k in range(3):
        gate = torch.ones(3, dtype=torch.float64)
        gate[k] = 0
        change = loss(net[1](net[0](x) * gate), y) - loss(net(x), y)
        assert_close(scores[k] / 2, change)


def test_weights_that_are_computed_do_not_hide_gates():
    """No parameter stands for a gate of the first layer, but what the next reads of it has a gradient all the same."""
    first = nn.utils.parametrizations.weight_norm(nn.Linear(5, 6))
    net = fill(nn.Sequential(first, nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))).double().eval()
    x, y = images(4, 5).double(), torch.arange(4) % 3
    scores = secateur.score(secateur.trace(net, x), "fisher", batches=[(x, y)])
    for name, at in (("0", 2), ("2", 4)):
        z = net[:at](x).detach().requires_grad_()
        F.cross_entropy(net[at:](z), y, reduction="sum").backward()
        assert_close(scores[name], (z.grad * z).square().mean(0))


def test_the_groups_are_those_of_the_net():
    assert set(secateur.score(traced(filled()), "fisher", batches=data())) == set(SIZES)


def test_the_contract():
    check_criterion("fisher")
