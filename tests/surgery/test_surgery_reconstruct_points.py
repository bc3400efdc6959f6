"""The points that reconstruction samples: the same for the same seed as ever, for figures that were made with them hang
on them; and which layers it refits when told."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from held import batches, random_plan
from nets import graph
from secateur.evidence.sampling import points, sampled_patches, sampled_rows
from secateur.graph.record import Contraction, Geometry
from secateur.surgery.reconstruct import _Sampler, reconstruct


def drawn(y, count, seed):
    """(B, C, H, W) -> (B * count, C), written out: positions with replacement, one draw an image and point."""
    flat = y.flatten(2)
    at = torch.randint(flat.shape[2], (len(y), 1, count), generator=torch.Generator().manual_seed(seed))
    return flat.gather(2, at.expand(-1, flat.shape[1], -1)).transpose(1, 2).reshape(-1, flat.shape[1])


def layer(axis, geometry=None):
    return Contraction(
        "aten.convolution.default" if geometry else "aten.mm.default", "", 0, axis, np.arange(1), None, geometry
    )


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (5, 2, 3, 3), (3, 4, 12), (2, 3, 4, 3, 2)])
def test_rows_of_a_map(shape):
    y, geometry = torch.randn(shape), Geometry((1,), (0,), (1,))
    for seed, batch in ((0, 0), (3, 5)):
        expected = drawn(y, 10, seed * 1_000_003 + batch).double()
        assert torch.equal(_Sampler(10, seed).given(y, batch, layer(1, geometry)), expected)
        assert torch.equal(_Sampler(10, seed).summed(y, batch, layer(1, geometry)), expected)


def test_all_rows_of_a_product():
    x = torch.randn(4, 5, 7)
    assert torch.equal(_Sampler(10, 0).given(x, 0, layer(2)), x.flatten(0, 1).double())
    assert torch.equal(_Sampler(10, 0).given(x, 0, layer(1)), x.mT.flatten(0, 1).double())  # the weight on the left
    assert torch.equal(_Sampler(10, 0).read(x, 0, layer(1), ()), x.mT.flatten(0, 1).double())


@pytest.mark.parametrize(("stride", "padding", "dilation"), [((1, 1), (1, 1), (1, 1)), ((2, 1), (0, 2), (2, 1))])
def test_rows_of_patches_are_those_of_an_unfolded_map(stride, padding, dilation):
    x = torch.randn(4, 3, 9, 8)
    unfolded = torch.nn.functional.unfold(x, (3, 2), dilation, padding, stride)  # (B, 3 * 6, positions)
    found = _Sampler(10, 2).read(x, 1, layer(1, Geometry(stride, padding, dilation)), (3, 2))
    assert torch.equal(found, drawn(unfolded, 10, 2 * 1_000_003 + 1).double())


def test_a_small_map_is_drawn_from_or_taken_whole():
    x = torch.randn(2, 3, 2, 2)
    assert sampled_rows(x, 2, 10, 0, whole=False).shape == (20, 3)
    assert torch.equal(sampled_rows(x, 2, 10, 0), x.flatten(2).transpose(1, 2).reshape(8, 3))
    patches = sampled_patches(x, (1, 1), Geometry((1, 1), (0, 0), (1, 1)), 10, 0)
    assert torch.equal(patches, sampled_rows(x, 2, 10, 0))
    assert [p.shape for p in points((2, 2), 3, 10, 0, whole=False)] == [(3, 10)] * 2


def test_only_the_layers_that_are_named_are_refitted():
    g = graph("plain")
    plan = random_plan(g, keep=0.5)
    cut, inputs = secateur.cut(g, plan).model, [x for x, _ in batches(g.example, 4)]
    one = reconstruct(g, plan, copy.deepcopy(cut), inputs, only={"two.0.weight"}).state_dict()
    whole = reconstruct(g, plan, copy.deepcopy(cut), inputs).state_dict()
    changed = {n for n, t in one.items() if not torch.equal(t, cut.state_dict()[n])}
    assert changed == {"two.0.weight", "two.1.running_mean"}
    assert all(torch.equal(one[n], whole[n]) for n in changed)  # it is the first that is refitted
    none = reconstruct(g, plan, copy.deepcopy(cut), inputs, only=()).state_dict()
    assert all(torch.equal(none[n], t) for n, t in cut.state_dict().items())


def test_without_a_ridge_dependent_inputs_are_no_trouble():
    """More columns than rows: the fit nearest to the weights as they are."""
    g = graph("plain")
    plan = random_plan(g, keep=0.5)
    cut, inputs = secateur.cut(g, plan).model, [x for x, _ in batches(g.example, 1)]
    fitted = reconstruct(g, plan, copy.deepcopy(cut), inputs, ridge=0.0)
    assert all(t.isfinite().all() for t in fitted.state_dict().values())


def test_a_layer_without_bias_or_norm_is_fitted_without_an_intercept():
    """What an intercept would take has nowhere to go; fitted with one, the layer gave an error of 100 in place of 1."""
    x = torch.randn(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        net[0].bias.copy_(torch.tensor([10.0, 0.0]))
        net[1].weight.fill_(1.0)
    g = secateur.trace(net, x[:2])
    pruned = secateur.cut(g, secateur.Plan.keeping(g, {"0": [0]}))
    before = (pruned.model(x) - net(x)).square().mean()
    reconstruct(g, pruned.plan, pruned.model, [x], ridge=0.0)
    assert (pruned.model(x) - net(x)).square().mean() <= before
    read = x[:, :1] + 10
    factor = torch.linalg.lstsq(read, net(x)).solution
    torch.testing.assert_close(pruned.model[1].weight, factor.T)
