"""Folded rows: what they say a unit computes is what the layers and the batch norms behind them compute."""

import copy

import pytest
import torch
from torch import nn

import secateur
from nets import conv_bn, fill, graph, images
from secateur.errors import BadModel
from secateur.groups.folded import folded_rows, folding, is_depthwise, row_tensors


def computed(layers, inputs):
    """(units, inputs + 1) of an affine map, from what it makes of zero and of each unit vector."""
    layers = layers.double().eval()
    with torch.no_grad():
        zero = layers(torch.zeros(1, inputs, dtype=torch.float64))
        rows = layers(torch.eye(inputs, dtype=torch.float64)) - zero
    return torch.cat([rows, zero]).T


def traced(*layers, example):
    return secateur.trace(fill(nn.Sequential(*layers)), example)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_a_linear_layer_and_its_norm(bias, affine):
    g = traced(
        nn.Linear(7, 5, bias=bias),
        nn.BatchNorm1d(5, affine=affine, eps=0.3),
        nn.ReLU(),
        nn.Linear(5, 2),
        example=images(4, 7),
    )
    torch.testing.assert_close(folded_rows(g["0"], g.model), computed(g.model[:2], 7))
    names = {"0.weight", "1.running_mean", "1.running_var"}
    names |= {"0.bias"} if bias else set()
    names |= {"1.weight", "1.bias"} if affine else set()
    assert row_tensors(g["0"], g.model) == names


def test_without_a_norm_rows_are_weights_and_biases():
    g = graph("nonorm")
    rows, layer = folded_rows(g["two"], g.model), g.model.two
    assert torch.equal(rows, torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1).double())
    g = graph("raw")
    assert torch.equal(folded_rows(g["first"], g.model)[:, :-1], g.model.first.T.double())


@pytest.mark.parametrize("transposed", [False, True])
def test_a_convolution_and_its_norm(transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    g = traced(kind(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), example=images(2, 3, 5, 5))

    class AsMatrix(nn.Module):
        def forward(self, x):
            return g.model[:2].double().eval()(x[:, :, None, None])[:, :, 0, 0]

    torch.testing.assert_close(folded_rows(g["0"], g.model), computed(AsMatrix(), 3))


def test_rows_of_several_layers_stand_side_by_side():
    g = graph("padded")
    both = folded_rows(g["stem.0"], g.model)
    assert both.shape == (6, 1 * 9 + 1 + 10 * 9 + 1)
    scale = (g.model.b[1].weight / (g.model.b[1].running_var + 1e-5).sqrt()).double()
    kernel = scale[1:7, None] * g.model.b[0].weight[1:7].flatten(1).double()
    torch.testing.assert_close(both[:, 10:-1], kernel.detach(), rtol=1e-6, atol=1e-7)


def test_a_unit_of_several_channels_has_the_rows_of_all():
    g = graph("grouped")
    assert folded_rows(g["stem.0"], g.model).shape == (3, 4 * (9 + 1))


def test_a_depthwise_convolution_passes_on():
    g = graph("depthwise")
    stem, deep = (s.writer for s in g["stem.0"].sources)
    assert (is_depthwise(stem, g.model), is_depthwise(deep, g.model)) == (False, True)
    assert folded_rows(g["stem.0"], g.model).shape == (6, 9 + 1)
    assert not {n for n in row_tensors(g["stem.0"], g.model) if n.startswith("deep")}


def test_a_norm_that_is_not_right_behind_is_not_folded():
    class Act(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.norm, self.two = nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)

        def forward(self, x):
            return self.two(self.norm(self.one(x).relu()))

    g = secateur.trace(fill(Act()), images(4, 7))
    assert row_tensors(g["one"], g.model) == {"one.weight", "one.bias"}


def test_a_norm_without_statistics_is_not_folded():
    g = traced(
        nn.Linear(7, 5),
        nn.BatchNorm1d(5, track_running_stats=False),
        nn.ReLU(),
        nn.Linear(5, 2),
        example=images(4, 7),
    )
    assert folding(g.model, g["0"].sources[0].writer.norm) is None
    assert row_tensors(g["0"], g.model) == {"0.weight", "0.bias"}


def test_a_computed_weight_has_no_rows():
    g = traced(nn.utils.parametrizations.weight_norm(nn.Linear(7, 5)), nn.ReLU(), nn.Linear(5, 2), example=images(4, 7))
    with pytest.raises(BadModel, match="group '0' is written by '0', whose weight is computed"):
        folded_rows(g["0"], g.model)


def test_half_precision_is_folded_in_double():
    x = images(2, 1, 8, 8)
    net = fill(nn.Sequential(conv_bn(1, 6), nn.Conv2d(6, 2, 3)))
    half = copy.deepcopy(net).to(torch.bfloat16)
    g, h = secateur.trace(half, x.bfloat16()), secateur.trace(copy.deepcopy(half).double(), x.double())
    assert folded_rows(g["0.0"], g.model).dtype == torch.float64
    torch.testing.assert_close(folded_rows(g["0.0"], g.model), folded_rows(h["0.0"], h.model), rtol=1e-14, atol=1e-14)
