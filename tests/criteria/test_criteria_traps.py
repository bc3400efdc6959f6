"""What breaks scores from gradients: dead channels, single units, losses and batches that say nothing."""

import pytest
import torch
from torch import nn

import secateur
from gated import Net, data, filled, traced
from held import assert_unchanged
from nets import Head, fill, images
from secateur.errors import BadModel, NeedsData

WITH_DATA = ["taylor", "taylor-weight", "taylor-bn", "taylor-so", "taylor-activation", "fisher", "obd", "snip", "grasp"]
ALL = [*WITH_DATA, "synflow"]


def kill(net, unit):
    """Unit of the inner group: no weights, and a norm that gives nothing."""
    for tensor in (net.one.weight, net.n1.weight, net.n1.bias):
        tensor.data[unit] = 0
    return net


@pytest.mark.parametrize("criterion", ALL)
def test_a_dead_channel_scores_zero_and_the_others_as_ever(criterion):
    scores = secateur.score(traced(kill(filled(), 2)), criterion, batches=data())["one"]
    assert scores[2] == 0
    assert (scores[[0, 1, 3]] != 0).all()


@pytest.mark.parametrize("criterion", ALL)
def test_a_dead_layer_scores_zero_or_is_refused(criterion):
    net = kill(filled(), slice(None))
    if criterion == "synflow":
        with pytest.raises(BadModel, match="no synflow of 'one': no flow passes through it: it is dead"):
            secateur.score(traced(net), criterion)
        return
    assert (secateur.score(traced(net), criterion, batches=data())["one"] == 0).all()


@pytest.mark.parametrize("criterion", ALL)
def test_a_group_of_one_unit(criterion):
    net = Net()
    net.one, net.n1, net.two = nn.Conv2d(5, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Conv2d(1, 5, 3, padding=1)
    scores = secateur.score(traced(fill(net).double().eval()), criterion, batches=data())["one"]
    assert scores.shape == (1,)
    assert torch.isfinite(scores).all()
    assert scores[0] != 0


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(6, affine=True), nn.GroupNorm(6, 6)])
@pytest.mark.parametrize("criterion", ["taylor", "taylor-so", "snip"])
def test_a_norm_of_one_channel_undoes_no_gate(criterion, norm):
    """It takes the scale of what is written away, in eval mode too; a gate stands behind it."""
    net = nn.Sequential(nn.Conv2d(1, 6, 3, bias=False), norm, nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), Head(4, 3))
    net, (x, y) = fill(net).double().eval(), data()[0]

    def loss(z):
        return nn.functional.cross_entropy(net[3:](net[:3](x) * z[:, None, None]), y)

    ones = torch.ones(6, dtype=torch.float64)
    g = torch.autograd.functional.jacobian(loss, ones)
    scores = secateur.score(secateur.trace(net, x), criterion, batches=[(x, y)])["0"]
    if criterion == "taylor-so":  # of this group's gates and the next's: only the first order is by hand
        assert (scores - g**2).abs().max() > 0
    else:
        torch.testing.assert_close(scores, g**2 if criterion == "taylor" else g.abs(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("criterion", WITH_DATA)
def test_a_loss_without_a_gradient_is_refused(criterion):
    net = filled()
    graph = traced(net)
    with assert_unchanged(net), pytest.raises(NeedsData, match="does not depend on the model's parameters"):
        secateur.score(graph, criterion, batches=data(), loss=lambda y, t: torch.tensor(1.0))


@pytest.mark.parametrize("criterion", WITH_DATA)
def test_a_loss_that_is_flat_scores_zero(criterion):
    """As of a batch in which every hinge is met."""
    for values in secateur.score(traced(filled()), criterion, batches=data(), loss=lambda y, t: 0 * y.sum()).values():
        assert (values == 0).all()


@pytest.mark.parametrize("criterion", WITH_DATA)
def test_a_batch_of_nan_is_refused_by_number(criterion):
    net, batches = filled(), data()
    graph = traced(net)
    batches[1] = (batches[1][0] * float("nan"), batches[1][1])
    with assert_unchanged(net), pytest.raises(NeedsData, match=r"batch 1 gives (a loss of nan|an output of NaN)"):
        secateur.score(graph, criterion, batches=batches)


@pytest.mark.parametrize("criterion", WITH_DATA)
def test_a_loss_that_is_not_finite_is_refused(criterion):
    with pytest.raises(NeedsData, match=r"batch 0 gives a loss of -?inf"):
        secateur.score(traced(filled()), criterion, batches=data(), loss=lambda y, t: y.sum() * float("inf"))


@pytest.mark.parametrize("criterion", WITH_DATA)
def test_an_empty_loader_is_refused(criterion):
    with pytest.raises(NeedsData, match="the batches are empty"):
        secateur.score(traced(filled()), criterion, batches=[])
    with pytest.raises(NeedsData, match="give batches="):
        secateur.score(traced(filled()), criterion)


@pytest.mark.parametrize("criterion", ALL)
def test_ties_are_scored_alike(criterion):
    """Two copies of one unit."""
    net = fill(nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))).double().eval()
    for tensor in (net[0].weight, net[0].bias, *net[1].parameters(), *list(net[1].buffers())[:2]):
        tensor.data[4] = tensor.data[1]
    net[3].weight.data[:, 4] = net[3].weight.data[:, 1]
    x = images(4, 5).double()
    scores = secateur.score(secateur.trace(net, x), criterion, batches=[(x, torch.arange(4) % 3)])["0"]
    torch.testing.assert_close(scores[4], scores[1], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("criterion", ALL)
def test_weights_that_the_user_froze_are_scored_as_others(criterion):
    graph, other = traced(filled()), traced(filled().requires_grad_(False))
    ours, theirs = (secateur.score(g, criterion, batches=data()) for g in (other, graph))
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)
    assert not any(p.requires_grad for p in other.model.parameters())
