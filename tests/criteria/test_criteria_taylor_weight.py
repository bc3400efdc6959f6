"""Taylor scores of weights against sums written out, and why they are squared one by one."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from gated import assert_close, data, filled, gate_gradients, traced, weight_gradients
from nets import fill, images
from secateur.criteria.obd import OBD
from secateur.criteria.taylor_weight import Form, TaylorWeight
from secateur.errors import BadModel, BadOption
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
    assert_close(scores["one"], by_layer(net, "one"))
    assert_close(scores["stem"], by_layer(net, "stem") + by_layer(net, "two"))


def test_reductions_over_the_layers_that_write_a_stream():
    net = filled()
    stem, two = by_layer(net, "stem"), by_layer(net, "two")
    mean = (stem / stem.mean() + two / two.mean()) / 2 * (stem.mean() + two.mean()) / 2
    for reduction, expected in (("first", stem), ("sum", stem + two), ("mean", mean)):
        assert_close(secateur.score(traced(net), TaylorWeight(reduction), batches=data())["stem"], expected)


def single(count=6):
    """Batches of one example."""
    x, y = data()[0]
    return [(x[i : i + 1], y[i : i + 1]) for i in range(min(count, len(x)))]


def formed(net, layer, form):
    """(units,) of one layer by LLM-Pruner's definitions, from the gradient of each example."""
    w = net.get_parameter(f"{layer}.weight").detach()
    each = torch.stack([weight_gradients(net, x, y)[f"{layer}.weight"] for x, y in single()])
    g, fisher = each.mean(0), each.square().mean(0)
    if form == "vectorize":
        return (w * g).flatten(1).sum(1).abs()
    return (
        {"first": (w * g).abs(), "second": w**2 * fisher, "mix": (w * g - w**2 * fisher / 2).abs()}[form]
        .flatten(1)
        .sum(1)
    )


@pytest.mark.parametrize("form", get_args(Form))
def test_forms_are_sums_written_out(form):
    net = filled()
    scores = secateur.score(traced(net), TaylorWeight(form=form), batches=single())
    assert_close(scores["one"], formed(net, "one", form))
    assert_close(scores["stem"], formed(net, "stem", form) + formed(net, "two", form))


def test_of_one_weight_a_unit_first_and_vectorize_are_its_product():
    """A quadratic: loss = sum of a_k w_k^2 / 2, so that w * g = a w^2; and second is (a w^2)^2."""
    net = nn.Sequential(nn.Linear(1, 4, bias=False), nn.Linear(4, 1, bias=False)).double()
    w, a = (
        torch.tensor([0.5, -2.0, 3.0, 0.0], dtype=torch.float64),
        torch.tensor([1.0, -3, 0.1, 7], dtype=torch.float64),
    )
    net[0].weight.data = w[:, None].clone()
    net[1].weight.data = (a * w / 2)[None].clone()

    def loss(out, target):  # what reads the units is a * w / 2, held fixed, and twice that is the slope
        return 2 * out.sum()

    graph = secateur.trace(net, torch.ones(1, 1, dtype=torch.float64))
    batches = [(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1))]
    product = a * w**2
    for form, expected in {
        "first": product.abs(), "vectorize": product.abs(), "second": product**2,
        "mix": (product - product**2 / 2).abs(),
    }.items():  # fmt: skip
        assert_close(secateur.score(graph, TaylorWeight(form=form), batches=batches, loss=loss)["0"], expected)


def test_mix_is_first_where_there_is_no_curvature():
    net = filled()
    graph = traced(net)
    evidence = secateur.collect(graph, TaylorWeight(form="mix"), batches=single())
    for fields in evidence.values["weight_squares"].values():
        fields["square"].zero_()
    first, mix = (secateur.score(graph, TaylorWeight(form=f), evidence=evidence) for f in ("first", "mix"))
    for name in first:
        assert_close(mix[name], first[name])


@pytest.mark.parametrize("form", get_args(Form))
def test_heads_of_zeros_go_first_and_leave_no_trace(form):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=20, num_hidden_layers=1, use_cache=False, **sizes)
    net = fill(LlamaForCausalLM(config)).double().eval()
    attention = net.model.layers[0].self_attn
    with torch.no_grad():
        attention.q_proj.weight[8:] = 0  # the second key and value head, and the two query heads that share it
        attention.k_proj.weight[4:] = 0
        attention.v_proj.weight[4:] = 0
    tokens = torch.arange(8)[None]
    graph = secateur.trace(net, tokens, kinds=("head",))
    (group,) = graph.groups

    def loss(out, target):
        return F.cross_entropy(out.logits[0], target)

    scores = secateur.score(graph, TaylorWeight(form=form), batches=[(tokens, torch.arange(8))], loss=loss)
    assert scores[group.name][1] == 0
    assert scores[group.name][0] > 0
    small = secateur.cut(graph, secateur.Plan.keeping(graph, {group.name: [0]})).model
    with torch.no_grad():
        torch.testing.assert_close(small(tokens).logits, net(tokens).logits, rtol=0, atol=1e-13)


def test_each_form_asks_for_what_it_needs():
    asked = {form: TaylorWeight(form=form).needs - {"weights"} for form in get_args(Form)}
    assert asked["second"] == TaylorWeight.needs - {"weights"} == {"weight_effects"}
    assert asked["first"] == asked["vectorize"] == {"weight_gradients"}
    assert asked["mix"] == {"weight_gradients", "weight_squares"}
    with pytest.raises(BadOption, match="form='third': give 'second', 'first', 'mix' or 'vectorize'"):
        TaylorWeight(form="third")


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
    assert_close(
        secateur.score(graph, "snip", batches=data())["one"], gate_gradients(net.eval(), data())["one"].mean(0).abs()
    )


def test_it_is_twice_the_obd_saliency_of_weights_alone():
    """Both square w * dL/dw weight by weight; OBD counts biases, scales and shifts in."""
    net = fill(nn.Sequential(nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 3))).double()
    graph = secateur.trace(net, images(2, 5).double())
    batches = [(images(4, 5).double(), torch.arange(4) % 3)]
    assert_close(
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
def test_a_gate_does_not_mind_a_computed_weight(criterion):
    """The scale of what a weight norm is computed from does nothing; a gate on what is read does."""
    net = fill(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)), nn.ReLU(), nn.Linear(6, 3)))
    graph, x, y = secateur.trace(net.double(), images(2, 5).double()), images(3, 5).double(), torch.arange(3)

    def loss(z):
        return F.cross_entropy(net[2](net[:2](x) * z), y)

    ones = torch.ones(6, dtype=torch.float64)
    g = torch.autograd.functional.jacobian(loss, ones)
    h = torch.autograd.functional.hessian(loss, ones).sum(1)
    expected = {"taylor": g**2, "snip": g.abs(), "taylor-so": (g - h / 2) ** 2}[criterion]
    assert_close(secateur.score(graph, criterion, batches=[(x, y)])["0"], expected)


def test_the_contract():
    check_criterion("taylor-weight")
    check_criterion(TaylorWeight("mean"))
    check_criterion(TaylorWeight(form="mix"))
