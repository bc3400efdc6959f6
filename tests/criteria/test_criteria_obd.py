"""Optimal brain damage for units against surgeon's formulas and losses whose curvature is known."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from gated import assert_close, data, filled, traced, weight_gradients
from nets import fill, images
from secateur.errors import BadModel
from secateur.testing import check_criterion


def saliency(net, names, units, batches):
    """Sum over the parameters named, whose first axis is the unit's, of F_ww w^2 / 2."""
    total = torch.zeros(units, dtype=torch.float64)
    for x, y in batches:
        gradient = weight_gradients(net, x, y)
        for n in names:
            each = gradient[n].square() * net.get_parameter(n).detach().square() / 2
            total += each.reshape(units, -1).sum(1)
    return total / len(batches)


@pytest.mark.parametrize("norm", [True, False])
def test_all_that_makes_a_unit_counts(norm):
    net = filled(norm=norm)
    scores = secateur.score(traced(net), "obd", batches=data())
    made = {"one": ["one", "n1"] if norm else ["one"], "stem": ["stem", "n0", "two", "n2"] if norm else ["stem", "two"]}
    for name, layers in made.items():
        own = [n for n, _ in net.named_parameters() if n.partition(".")[0] in layers]
        assert_close(scores[name], saliency(net, own, len(scores[name]), data()))


def test_with_a_diagonal_hessian_it_is_the_surgeons_formula():
    """OBS of a set S: w_S' ([H^-1]_SS)^-1 w_S / 2, which is OBD where H has its diagonal alone."""
    net = filled()
    scores = secateur.score(traced(net), "obd", batches=data())["one"]
    names = ["one.weight", "n1.weight", "n1.bias"]
    squares = {n: np.mean([weight_gradients(net, x, y)[n].numpy() ** 2 for x, y in data()], axis=0) for n in names}
    for k in range(4):
        w = np.concatenate([net.get_parameter(n).detach().numpy()[k].ravel() for n in names])
        inverse = np.linalg.inv(np.diag(np.concatenate([squares[n][k].ravel() for n in names])))
        np.testing.assert_allclose(scores[k].item(), w @ np.linalg.solve(inverse, w) / 2, rtol=1e-9)


def test_a_unit_of_one_parameter_is_the_scalar_formula():
    net = fill(nn.Sequential(nn.Linear(1, 4, bias=False), nn.Linear(4, 1))).double()
    x, y = images(3, 1).double(), images(3, 1).double()
    batches = [(x[i : i + 1], y[i : i + 1]) for i in range(3)]
    loss = nn.functional.mse_loss
    scores = secateur.score(secateur.trace(net, x), "obd", batches=batches, loss=loss)["0"]
    squares = [weight_gradients(net, a, b, loss)["0.weight"][:, 0].square() for a, b in batches]
    assert_close(scores, torch.stack(squares).mean(0) * net[0].weight.detach()[:, 0].square() / 2)


def test_at_the_minimum_of_a_likelihood_it_is_the_change_of_the_loss():
    """Residuals of one in both directions, an example a batch: Fisher information is the Hessian, here diagonal."""
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 1, bias=False)).double()
    net[0].weight.data.copy_(torch.diag(torch.tensor([0.7, -0.2, 1.1])))
    net[1].weight.data.fill_(1.0)
    x = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    y = net(x).detach() + torch.tensor([1.0] * 3 + [-1.0] * 3, dtype=torch.float64)[:, None]
    loss = lambda output, target: (output - target).square().mean() / 2  # noqa: E731
    graph = secateur.trace(net, x)
    scores = secateur.score(graph, "obd", batches=[(x[i : i + 1], y[i : i + 1]) for i in range(6)], loss=loss)["0"]
    for k in range(3):
        small = secateur.cut(graph, secateur.Plan.keeping(graph, {"0": [u for u in range(3) if u != k]})).model
        assert_close(scores[k], loss(small(x), y) - loss(net(x), y))


def test_the_order_of_the_saliencies_is_not_that_of_the_norms():
    """A large weight that no example uses goes first."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)).double()
    net[0].weight.data.copy_(torch.tensor([[0.0, 9.0], [0.1, 0.0]]))
    net[1].weight.data.fill_(1.0)
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    graph = secateur.trace(net, x)
    scores = secateur.score(graph, "obd", batches=[(x, None)], loss=lambda output, _: output.square().sum())["0"]
    assert scores[0] == 0 < scores[1]
    assert secateur.score(graph, "l2")["0"].argmin() == 1


def test_units_that_no_parameter_makes_are_refused():
    graph = secateur.trace(filled(), data()[0][0])
    group = graph["one"]
    read = type(group)(group.name, group.size, tuple(m for m in group.members if m.role == "in"), (), group.classes)
    evidence = secateur.collect(graph, "obd", batches=data())
    with pytest.raises(BadModel, match=r"no parameter makes the units of group 'one'; use .*fisher"):
        secateur.criteria()["obd"]().score(read, evidence)


def test_the_contract():
    check_criterion("obd")
