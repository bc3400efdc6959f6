"""Groups that scale: those behind ReLU and its like, and no others."""

import pytest
import torch
from torch import nn

import secateur
from held import assert_unchanged
from nets import Head, conv_bn, fill, graph, images
from secateur.surgery.homogeneous import homogeneous

X = images(2, 6)


def scales(act):
    g = secateur.trace(fill(nn.Sequential(nn.Linear(6, 8), act, nn.Linear(8, 3))), X)
    return homogeneous(g, g.groups) == {"0"}


@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(0.3), nn.Identity(), nn.PReLU(), nn.Dropout()], ids=str)
def test_these_scale(act):
    assert scales(act)


@pytest.mark.parametrize(
    "act",
    [
        nn.Tanh(),
        nn.Sigmoid(),
        nn.GELU(),
        nn.SiLU(),
        nn.ELU(),
        nn.ReLU6(),
        nn.Hardswish(),
        nn.Softplus(),
        nn.Threshold(0.1, 0),
    ],
    ids=str,
)
def test_these_do_not(act):
    assert not scales(act)


def test_batch_norms_are_part_of_what_is_scaled():
    g = graph("plain")
    assert homogeneous(g, g.groups) == {"one.0", "two.0"}
    g = graph("small-vgg")  # with pooling between, and a flattened map
    assert homogeneous(g, g.groups) == {x.name for x in g.groups}


def test_residual_streams_and_layers_used_twice():
    for name in ("padded", "digits-resnet", "twice", "tied", "concat", "grouped", "transposed", "flat"):
        g = graph(name)
        assert homogeneous(g, g.groups) == {x.name for x in g.groups}, name


def test_a_channel_that_decides_how_much_of_itself_passes_does_not():
    g = graph("squeeze")
    assert homogeneous(g, g.groups) == {"down", "last.0"}


def test_a_norm_that_is_not_folded_stops_it():
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.BatchNorm2d(6), conv_bn(6, 5), Head(5))
    g = secateur.trace(fill(net), images(2, 1, 8, 8))
    assert homogeneous(g, g.groups) == {"3.0"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_in_every_precision_and_nothing_is_touched(dtype):
    net = fill(nn.Sequential(conv_bn(1, 6), conv_bn(6, 5), Head(5))).to(dtype)
    g = secateur.trace(net, images(2, 1, 8, 8).to(dtype))
    with assert_unchanged(net):
        assert homogeneous(g, g.groups) == {"0.0", "1.0"}
    assert homogeneous(g, []) == set()
