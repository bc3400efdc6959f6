"""Taylor scores of weights against sums written out, and why they are squared one by one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from gated import close, data, filled, gate_gradients, traced, weight_gradients
from nets import fill, images
from secateur.criteria.obd import OBD
from secateur.criteria.taylor_weight import TaylorWeight
from secateur.errors import BadModel
from secateur.testing import check_criterion


def by_layer(net, layer, batches=None):
    """(units,) of one layer, by autograd."""
    w = net.get_parameter(f"{layer}.weight").detach()
    each = [(w * weight_gradients(net, x, y)[f"{layer}.weight"]).square() for x, y in batches or data()]
    return torch.stack(each).mean(0).flatten(1).sum(1)


@pytest.mark.parametrize("norm", [True, False])
def test_the_score_is_the_sum_of_squared_products(norm):
    net = filled(norm=norm)
    scores = secateur.score(traced(net), "taylor-weight", batches=data())
    close(scores["one"], by_layer(net, "one"))
    close(scores["stem"], by_layer(net, "stem") + by_layer(net, "two"))


def test_reductions_over_the_layers_that_write_a_stream():
    net = filled()
    stem, two = by_layer(net, "stem"), by_layer(net, "two")
    mean = (stem / stem.mean() + two / two.mean()) / 2 * (stem.mean() + two.mean()) / 2
    for reduction, expected in (("first", stem), ("sum", stem + two), ("mean", mean)):
        close(secateur.score(traced(net), TaylorWeight(reduction), batches=data())["stem"], expected)


def test_products_over_a_filter_in_front_of_a_norm_in_training_mode_cancel():
    """The scale of the filter does not matter there, so that a gate on it, or a squared sum, is noise. Squares of
    single products, and gates behind the norm in eval mode, as evidence is, are not."""
    net = filled(norm=True)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-13
    x, y = data()[0]
    products = net.one.weight.detach() * weight_gradients(net.train(), x, y)["one.weight"]
    joint, single = products.flatten(1).sum(1).square(), products.square().flatten(1).sum(1)
    assert joint.max() < 1e-16 * single.min()
    graph = traced(net)
    assert secateur.score(graph, "taylor-weight", batches=data())["one"].min() > 1e-9
    assert secateur.score(graph, "taylor", batches=data())["one"].min() > 1e-9
    assert secateur.score(graph, "snip", batches=data())["one"].min() > 1e-9
    assert net.training
    close(secateur.score(graph, "snip", batches=data())["one"], gate_gradients(net.eval(), data())["one"].mean(0).abs())


def test_it_is_twice_the_obd_saliency_of_weights_alone():
    """Both square w * dL/dw weight by weight; OBD counts biases, scales and shifts in."""
    net = fill(nn.Sequential(nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 3))).double()
    graph = secateur.trace(net, images(2, 5).double())
    batches = [(images(4, 5).double(), torch.arange(4) % 3)]
    close(
        secateur.score(graph, TaylorWeight(), batches=batches)["0"],
        2 * secateur.score(graph, OBD(), batches=batches)["0"],
    )


def test_a_weight_that_the_loss_does_not_see_adds_nothing():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.one = nn.Linear(4, 6), nn.Linear(6, 2)
            self.aside, self.two = nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.one(self.hidden(x).relu()), self.two(self.aside(x).relu())

    graph = secateur.trace(fill(Heads()), images(2, 4))
    batches = [(images(2, 4), torch.arange(2))]
    for criterion in ("taylor-weight", "obd", "grasp", "snip", "taylor-so"):
        scores = secateur.score(graph, criterion, batches=batches, loss=lambda y, t: F.cross_entropy(y[0], t))
        assert (scores["aside"] == 0).all()
        assert (scores["hidden"] != 0).any()


def test_a_weight_that_is_computed_is_refused_by_group():
    net = fill(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)), nn.ReLU(), nn.Linear(6, 3)))
    graph = secateur.trace(net, images(2, 5))
    with pytest.raises(
        BadModel, match=r"group '0' is written by '0', whose weight is computed from others; use .*fisher"
    ):
        secateur.score(graph, "taylor-weight", batches=[(images(3, 5), torch.arange(3))])


@pytest.mark.parametrize("criterion", ["taylor", "snip", "taylor-so"])
def test_so_is_a_gate_that_would_stand_on_a_computed_weight(criterion):
    """The scale of what a weight norm is computed from does nothing: its products would sum to 0, and not say so."""
    net = fill(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)), nn.ReLU(), nn.Linear(6, 3)))
    graph = secateur.trace(net, images(2, 5))
    with pytest.raises(BadModel, match="of '0': the weight of '0' is computed"):
        secateur.score(graph, criterion, batches=[(images(3, 5), torch.arange(3))])


def test_the_contract():
    check_criterion("taylor-weight")
    check_criterion(TaylorWeight("mean"))
