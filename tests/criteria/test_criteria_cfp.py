"""Correlation between filters: pairs walked one by one, and numpy's Pearson coefficient."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import graph
from secateur.criteria.cfp import correlations
from secateur.testing import check_criterion


def raw(weight):
    net = nn.Sequential(nn.Linear(weight.shape[1], len(weight), bias=False), nn.ReLU(), nn.Linear(len(weight), 2))
    net.double()[0].weight.data.copy_(weight)
    g = secateur.trace(net, torch.zeros(1, weight.shape[1], dtype=torch.float64))
    return secateur.criteria()["cfp"]().score(g["0"], secateur.collect(g, "cfp")).numpy()


def random(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def walked(correlation, norm):
    """Pairs from the most correlated down; of two that are there the smaller goes."""
    n = len(norm)
    pairs = sorted(((i, j) for i in range(n) for j in range(i)), key=lambda p: -correlation[p])
    score = np.ones(n)
    gone = set()
    for i, j in pairs:
        if gone.isdisjoint((i, j)):
            goes = min((i, j), key=lambda u: (norm[u], -u))
            gone.add(goes)
            score[goes] = 1 - correlation[i, j]
    return score


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_walking_the_pairs(seed):
    weight = random(12, 6, seed)
    expected = walked(np.abs(np.corrcoef(weight)), weight.norm(dim=1).numpy())
    np.testing.assert_allclose(raw(weight), expected, rtol=1e-12)


def test_correlations_are_pearsons():
    weight = random(9, 5)
    np.testing.assert_allclose(correlations(weight), np.abs(np.corrcoef(weight)), atol=1e-14)


def test_scale_sign_and_shift_of_a_filter_change_no_correlation():
    weight = random(6, 8)
    factors = torch.tensor([1.0, -2.0, 0.5, 30.0, -0.1, 1.0], dtype=torch.float64)[:, None]
    shifts = torch.arange(6, dtype=torch.float64)[:, None]
    np.testing.assert_allclose(correlations(weight * factors + shifts), correlations(weight), atol=1e-12)


def test_duplicates_pair_first():
    weight = random(7, 9)
    weight[5] = weight[2]
    found = raw(weight)
    assert found[5] == pytest.approx(0, abs=1e-12)  # of two that are equal the later one goes
    assert sorted(found)[1] > 0.01


def test_of_a_pair_the_smaller_goes_and_the_larger_stays_for_later():
    weight = random(7, 9)
    weight[2] = 3 * weight[5] + 1e-3 * random(1, 9, seed=1)[0]
    assert raw(weight).argmin() == 5
    weight[2] /= 9
    assert raw(weight).argmin() == 2


def test_three_alike_leave_one():
    weight = random(8, 9)
    weight[1], weight[6] = -2 * weight[3], 0.5 * weight[3]
    found = raw(weight)
    assert found[[3, 6]] == pytest.approx([0, 0], abs=1e-12)
    assert found[1] > 0.01


def test_a_unit_that_went_makes_no_other_go():
    """b goes for a at 0.9; c, which is near b alone, then meets nothing as near."""
    a, b, c = np.eye(3), None, None
    base = np.array([[1, -1, 0, 0], [0, 0, 1, -1], [1, 1, -1, -1]]) / np.sqrt([[2], [2], [4]])
    a = base[0]
    b = 0.9 * base[0] + np.sqrt(1 - 0.81) * base[1]
    c = 0.8 * b + 0.6 * base[2]
    weight = torch.from_numpy(np.stack([3 * a, 2 * b, c]))
    assert raw(weight) == pytest.approx([1, 1 - 0.9, 1 - 0.72])


def test_dead_and_flat_filters():
    weight = random(6, 5)
    weight[4] = 0
    weight[1] = 7
    found = raw(weight)
    assert found[4] == 0
    assert found[1] == 1
    assert (raw(torch.zeros(4, 3)) == [1, 0, 0, 0]).all()
    assert (raw(random(5, 1)) == 1).all()  # one weight each: nothing varies
    assert raw(random(1, 4)).tolist() == [1.0]


def test_several_writers_are_averaged():
    g = graph("padded")
    stem, block = (g.model.get_parameter(n).detach().double().flatten(1) for n in ("stem.0.weight", "b.0.weight"))
    block = block[1:7]  # stem channel i meets channel 1 + i of the block
    correlation = (np.abs(np.corrcoef(stem)) + np.abs(np.corrcoef(block))) / 2
    norms = [x.norm(dim=1) for x in (stem, block)]
    expected = walked(correlation, sum(n / n.mean() for n in norms).numpy())
    found = secateur.score(g, "cfp")["stem.0"]
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-9)


def test_norms_of_several_writers_are_averaged_whatever_their_scale():
    """Of a correlated pair the smaller goes: smaller by the mean of layers, each over its mean, not by their sum."""
    g = graph("padded")
    model = copy.deepcopy(g.model)
    stem, block = (model.get_parameter(n).detach().double().flatten(1) for n in ("stem.0.weight", "b.0.weight"))
    stem, block = stem.clone(), block[1:7].clone()
    stem[4], block[4] = stem[1], block[1]  # fully correlated; by the block 1 is smaller, by the stem 4, and by far
    stem, block = stem / stem.norm(dim=1, keepdim=True), block / block.norm(dim=1, keepdim=True) * 1000
    stem[4] *= 0.2
    block[1] *= 0.9
    with torch.no_grad():
        model.stem[0].weight.copy_(stem.reshape(model.stem[0].weight.shape))
        model.b[0].weight[1:7] = block.reshape(6, *model.b[0].weight.shape[1:])
    found = secateur.score(secateur.trace(model, g.example), "cfp")["stem.0"]
    sums, means = stem.norm(dim=1) + block.norm(dim=1), sum(x.norm(dim=1) / x.norm(dim=1).mean() for x in (stem, block))
    assert sums[1] < sums[4]
    assert means[4] < means[1]
    assert found.argmin() == 4
    assert found[4] == pytest.approx(0, abs=1e-6)
    assert found[1] > 0.01


def test_a_planted_duplicate_goes_first_from_a_network():
    g = graph("plain")
    model = copy.deepcopy(g.model)
    model.one[0].weight.data[6] = 0.5 * model.one[0].weight.data[1]
    other = secateur.trace(model, g.example)
    plan = secateur.allocate(other, secateur.score(other, "cfp"), secateur.Budget(macs=0.99))
    assert plan.kept["one.0"].tolist() == [0, 1, 2, 3, 4, 5, 7]


def test_the_contract():
    check_criterion("cfp")
