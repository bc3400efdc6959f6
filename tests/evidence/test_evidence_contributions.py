"""Contributions against those computed from what layers read, and ThiNet's rescaling in closed form."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import fill, images
from secateur.errors import BadModel
from secateur.evidence.base import Sampling
from secateur.evidence.collect import collect
from secateur.evidence.contributions import between, contributions, layers_of, left_over, rescale, rising, thinet_greedy
from secateur.evidence.inputs_gram import inputs_of

ALL = Sampling(points=10**6)


class Net(nn.Module):
    """A convolution reads the stem alone, another the stem beside other channels; a flattened head."""

    def __init__(self):
        super().__init__()
        self.stem, self.side = nn.Conv2d(1, 5, 3), nn.Conv2d(1, 3, 3)
        self.one, self.two = nn.Conv2d(5, 6, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6 * 16, 4)

    def forward(self, x):
        stem, side = self.stem(x).relu(), self.side(x).relu()
        x = self.one(stem) + self.two(torch.cat([stem, side], 1))
        return self.head(x.relu().flatten(1))


@pytest.fixture(scope="module")
def setting():
    net, x = fill(Net()).double().eval(), images(8, 1, 6, 6).double()
    graph = secateur.trace(net, x[:2])
    return net, x, graph, collect(graph, {"inputs_gram"}, batches=[(x[:4], None), (x[4:], None)], sampling=ALL)


def alone(layer, x, channels):
    """What these channels add to each output of a convolution."""
    held = torch.zeros_like(x)
    held[:, channels] = x[:, channels]
    return F.conv2d(held, layer.weight, padding=layer.padding).movedim(1, -1).reshape(-1)


@pytest.mark.parametrize("intercept", [False, True])
def test_inner_products_are_those_of_contributions_computed_one_by_one(setting, intercept):
    net, x, graph, evidence = setting
    stem, side = net.stem(x).relu().detach(), net.side(x).relu().detach()
    grams = contributions(graph["stem"], evidence, intercept=intercept)
    assert grams.shape == (2, 5, 5)
    for gram, layer, seen in ((grams[0], net.one, stem), (grams[1], net.two, torch.cat([stem, side], 1))):
        z = torch.stack([alone(layer, seen, [k]) for k in range(5)], 1).detach()
        y = alone(layer, seen, list(range(seen.shape[1]))).detach()
        if intercept:
            each = z.reshape(-1, 6, 5)
            z, y = (each - each.mean(0)).reshape(-1, 5), (y.reshape(-1, 6) - y.reshape(-1, 6).mean(0)).reshape(-1)
        torch.testing.assert_close(gram, z.T @ z / y.square().sum() / 2, rtol=1e-9, atol=1e-12)


def test_units_of_several_columns(setting):
    net, x, graph, evidence = setting
    with torch.no_grad():
        seen = (net.one(net.stem(x).relu()) + net.two(torch.cat([net.stem(x).relu(), net.side(x).relu()], 1))).relu()
        each = seen.flatten(2)  # (B, 6, 16)
        weight = net.head.weight.reshape(4, 6, 16)
        z = torch.einsum("bcp,ocp->boc", each, weight).reshape(-1, 6)
    (gram,) = contributions(graph["one"], evidence, intercept=False)
    torch.testing.assert_close(gram, z.T @ z / z.sum(1).square().sum(), rtol=1e-9, atol=1e-12)


def test_inner_products_with_what_is_given(setting):
    """<Z_i, Y> = <X_i^T Y, W_i^T>, which is the sum of the row of the Gram matrix when Y is the sum of all Z."""
    net, x, graph, evidence = setting
    rows = F.unfold(net.stem(x).relu(), 3, padding=1).movedim(1, 2).flatten(0, 1).detach()
    weight = net.one.weight.detach().flatten(1)
    y = rows @ weight.T
    expected = torch.stack(
        [((rows[:, 9 * i : 9 * i + 9].T @ y) * weight[:, 9 * i : 9 * i + 9].T).sum() for i in range(5)]
    )
    layer = layers_of(graph["stem"], evidence, intercept=False)[0]
    torch.testing.assert_close(between(layer).sum(1), expected / y.square().sum() / 2)


def test_a_reader_that_gives_nothing_is_left_out(setting):
    _, x, _, _ = setting
    silent = fill(Net()).double().eval()
    silent.two.weight.data.zero_()
    graph = secateur.trace(silent, x[:2])
    evidence = collect(graph, {"inputs_gram"}, batches=[(x, None)], sampling=ALL)
    assert contributions(graph["stem"], evidence, intercept=False).shape == (1, 5, 5)
    assert torch.equal(
        contributions(graph["side"], evidence, intercept=True), torch.zeros(1, 3, 3, dtype=torch.float64)
    )


def cancelling():
    rng = np.random.default_rng(0)
    z = np.linalg.qr(rng.standard_normal((40, 4)))[0] * [3.0, 1.0, 1.0, 2.0]
    z[:, 2] = -z[:, 1]
    return z


def test_a_dead_channel_changes_no_factor():
    z = np.random.default_rng(0).standard_normal((40, 4))
    z[:, 1] = 0.0
    gram = torch.from_numpy(z.T @ z)
    kept = torch.tensor([0, 2, 3])
    assert int(thinet_greedy(gram)[0][0]) == 1
    torch.testing.assert_close(rescale(gram, kept), torch.ones(3, dtype=torch.float64))


def test_a_cancelling_pair_costs_nothing_jointly_and_changes_no_factor():
    z = cancelling()
    gram = torch.from_numpy(z.T @ z)
    order, cost = thinet_greedy(gram)
    assert set(order[:2].tolist()) == {1, 2}
    assert float(cost[1]) == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(rescale(gram, torch.tensor([0, 3])), torch.ones(2, dtype=torch.float64))


def test_the_survivor_of_two_equal_channels_counts_twice():
    z = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 3)))[0] * [2.0, 2.0, 1.0]
    z[:, 1] = z[:, 0]
    gram = torch.from_numpy(z.T @ z)
    assert int(thinet_greedy(gram)[0][0]) == 2  # the published choice takes the least energy
    kept = torch.tensor([0, 2])
    factors = rescale(gram, kept)
    torch.testing.assert_close(factors, torch.tensor([2.0, 1.0], dtype=torch.float64))
    assert left_over(gram, kept, factors) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_rescaling_is_numpys_fit_and_never_worse_than_none(seed):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((40, 6)) @ rng.standard_normal((6, 6))
    gram, y = torch.from_numpy(z.T @ z), z.sum(1)
    for count in range(1, 7):
        kept = np.sort(rng.permutation(6)[:count])
        factors = rescale(gram, torch.from_numpy(kept))
        np.testing.assert_allclose(factors, np.linalg.lstsq(z[:, kept], y, rcond=None)[0], atol=1e-8)
        error = left_over(gram, torch.from_numpy(kept), factors)
        assert error == pytest.approx(((y - z[:, kept] @ factors.numpy()) ** 2).sum(), abs=1e-8)
        assert error <= left_over(gram, torch.from_numpy(kept), torch.ones(count, dtype=torch.float64)) + 1e-9


def test_the_worked_example():
    """Energies 4, 1, 0.25, 1.44, correlation 0.9 of the first and the last: what the tutorial tells."""
    gram = torch.diag(torch.tensor([4.0, 1.0, 0.25, 1.44], dtype=torch.float64))
    gram[0, 3] = gram[3, 0] = 2.16
    assert thinet_greedy(gram)[0].tolist()[:2] == [2, 1]
    given = float(gram.sum())
    pairs = {pair: rescale(gram, torch.tensor(pair)) for pair in ((0, 1), (0, 3))}
    assert pairs[0, 1].tolist() == pytest.approx([1.54, 1.0])
    left = {pair: left_over(gram, torch.tensor(pair), w) / given for pair, w in pairs.items()}
    assert left[0, 1] == pytest.approx(0.0476, abs=5e-5)
    assert left[0, 3] == pytest.approx(0.1135, abs=5e-5)
    assert left_over(gram, torch.tensor((0, 1)), torch.ones(2)) / given == pytest.approx(0.1535, abs=5e-5)


def test_scores_rise_along_the_order_even_where_the_error_does_not():
    scores = rising(torch.tensor([2, 0, 3, 1]), torch.tensor([0.5, 0.2, 0.2, 0.9]))
    assert scores.argsort().tolist() == [2, 0, 3, 1]
    torch.testing.assert_close(scores, torch.tensor([0.5, 0.9, 0.5, 0.5], dtype=torch.float64))
    flat = rising(torch.arange(4096), torch.zeros(4096))
    assert (flat.diff() > 0).all()
    assert flat.max() < 1e-8


class Both(nn.Module):
    """One weight, used as it is and transposed."""

    def __init__(self, wide, narrow):
        super().__init__()
        self.first, self.tied, self.last = (
            nn.Linear(5, wide),
            nn.Parameter(torch.ones(narrow, wide)),
            nn.Linear(wide, 3),
        )

    def forward(self, x):
        x = F.linear(self.first(x).relu(), self.tied).relu()
        return self.last(F.linear(x, self.tied.t()).relu())


@pytest.mark.parametrize("sizes", [(6, 4), (5, 5)])
def test_a_weight_used_both_ways_round_is_refused_by_group_name(sizes):
    graph = secateur.trace(Both(*sizes), torch.zeros(2, 5))
    evidence = collect(graph, {"inputs_gram"}, batches=[(torch.randn(4, 5), None)])
    with pytest.raises(BadModel, match=r"group 'tied' .* no inputs_gram: it is used both .*frozen='tied'"):
        inputs_of(graph["tied"], evidence)
