"""Weights that are computed (weight norms, spectral norms, masks, factors) against plain layers that say the same."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import secateur
from secateur.criteria.base import CRITERIA
from secateur.criteria.group_norm import slices
from secateur.criteria.weights import multiplied
from secateur.evidence.base import Evidence

pytestmark = pytest.mark.filterwarnings("ignore:.*(weight|spectral)_norm.*")
X = torch.randn(2, 5)


def masked(layer):
    prune.random_unstructured(layer, "weight", amount=0.5)
    return layer


class Rounded(nn.Module):
    def forward(self, x):
        return (8 * x).round() / 8


def rounded(layer):
    parametrize.register_parametrization(layer, "weight", Rounded())
    return layer


class Product(nn.Module):
    """A weight of low rank, from two factors."""

    def forward(self, left, right):
        return left @ right

    def right_inverse(self, weight):
        return weight[:, :2].clone(), torch.eye(2, weight.shape[1])


def factors(layer):
    parametrize.register_parametrization(layer, "weight", Product())
    return layer


class Added(nn.Module):
    """As adapters do it: a product of two factors is added."""

    def __init__(self, out, into):
        super().__init__()
        self.left, self.right = nn.Parameter(torch.randn(out, 2)), nn.Parameter(torch.randn(2, into))

    def forward(self, x):
        return x + self.left @ self.right


def added(layer):
    parametrize.register_parametrization(layer, "weight", Added(*layer.weight.shape))
    return layer


def columns(layer):
    return parametrizations.weight_norm(layer, dim=1)


NORMS = (parametrizations.weight_norm, columns, nn.utils.weight_norm, nn.utils.spectral_norm)
KINDS = (*NORMS, masked, rounded, added)


def of(kind):
    """A net with two computed weights, and the net of plain layers that gives the same."""
    net = nn.Sequential(kind(nn.Linear(5, 6)), nn.ReLU(), kind(nn.Linear(6, 4)), nn.ReLU(), nn.Linear(4, 3)).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(torch.rand_like(p) + 0.5)
        net(X)
        plain = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
        for a, b in zip(plain, net, strict=True):
            if isinstance(a, nn.Linear):
                a.weight.copy_(b.weight)
                a.bias.copy_(b.bias)
    torch.testing.assert_close(plain(X), net(X))
    return net, plain


@pytest.mark.parametrize(
    ("name", "options"),
    [("l1", {}), ("l1", {"consumers": True}), ("l2", {}), ("fpgm", {}), ("lamp", {}), ("group-norm", {})],
)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_plain_layers(kind, name, options):
    net, plain = (secateur.trace(model, X) for model in of(kind))
    found, expected = (secateur.score(g, CRITERIA.configured(name, options)) for g in (net, plain))
    assert set(expected) == {"0", "2"}
    for group in expected:  # the ranks of factors are groups too
        torch.testing.assert_close(found[group], expected[group])


def test_asking_moves_nothing():
    """A spectral norm in train mode moves its vectors whenever its weight is asked for."""
    layer = parametrizations.spectral_norm(nn.Linear(5, 6)).train()
    layer.parametrizations.weight[0].eval()
    before, modes = copy.deepcopy(layer.state_dict()), [m.training for m in layer.modules()]
    weight = multiplied(Evidence(layer), "parametrizations.weight.original")[1]
    torch.testing.assert_close(weight, layer.eval().weight.detach())
    layer.train().parametrizations.weight[0].eval()
    assert [m.training for m in layer.modules()] == modes
    assert all(torch.equal(a, before[n]) for n, a in layer.state_dict().items())


def test_the_parametrized_layer_may_be_the_whole_model():
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    name, weight = multiplied(Evidence(layer), "parametrizations.weight.original1")
    assert name == "parametrizations.weight"
    assert torch.equal(weight, layer.weight)
    assert not weight.requires_grad
    assert multiplied(Evidence(layer), "bias")[0] == "bias"


def test_of_factors_the_product_counts_where_it_writes_and_the_factor_that_holds_the_units_where_it_is_read():
    net, plain = (secateur.trace(model, X) for model in of(factors))
    found, expected = (secateur.score(g, "l2") for g in (net, plain))
    torch.testing.assert_close(found["0"], expected["0"])
    first, second = (net.model[i].parametrizations.weight for i in (0, 2))
    norms = slices(net["0"], Evidence(net.model))
    assert {n for n, _ in norms} == {"0.parametrizations.weight.original0", "2.parametrizations.weight.original1"}
    left, right = first.original0.detach().double(), second.original1.detach().double()
    torch.testing.assert_close(sum(norms.values()), left.square().sum(1) + right.square().sum(0))
    rank = next(g for g in net.groups if g.size == 2)
    assert secateur.score(net, "l2")[rank.name].shape == (2,)
