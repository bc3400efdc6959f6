"""Layer-adaptive magnitude: the share of what is left of a layer."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import graph
from secateur.criteria.l2 import L2
from secateur.criteria.lamp import LAMP
from secateur.evidence.base import Evidence
from secateur.testing import check_criterion


def chain(*weights):
    """A traced chain of linear layers with these weights, (outputs, inputs) each, and a head."""
    layers = []
    for weight in weights:
        layers += [nn.Linear(weight.shape[1], weight.shape[0], bias=False), nn.ReLU()]
        layers[-2].weight.data.copy_(weight)
    net = nn.Sequential(*layers, nn.Linear(len(weights[-1]), 2))
    return secateur.trace(net, torch.zeros(1, weights[0].shape[1]))


def scores(weight):
    return secateur.score(chain(weight), "lamp")["0"].tolist()


def test_by_hand():
    """Squares 9, 1, 4, 16: 9/25, 1/30, 4/29, 16/16."""
    weight = torch.tensor([[3.0], [-1.0], [2.0], [4.0]])
    assert scores(weight) == pytest.approx([9 / 25, 1 / 30, 4 / 29, 1.0])


def test_brute_force():
    weight = torch.randn(40, 7, generator=torch.Generator().manual_seed(0))
    square = (weight.double() ** 2).sum(1).tolist()
    expected = [s / sum(other for other in square if other >= s) for s in square]
    assert scores(weight) == pytest.approx(expected, rel=1e-12)


def test_equal_units_share_one_score_whatever_their_order():
    assert scores(torch.ones(5, 3)) == pytest.approx([0.2] * 5)
    weight = torch.tensor([[2.0], [1.0], [2.0], [1.0]])
    assert scores(weight) == pytest.approx([0.5, 0.1, 0.5, 0.1])


def test_units_of_zeros_score_nothing():
    assert scores(torch.tensor([[0.0], [3.0], [0.0]])) == [0.0, 1.0, 0.0]
    assert scores(torch.zeros(3, 2)) == [0.0, 0.0, 0.0]


def test_a_single_unit_has_all_that_is_left():
    assert scores(torch.tensor([[0.3, -0.1]])) == [1.0]


def test_the_scale_of_a_layer_does_not_matter_and_within_a_group_it_ranks_as_l2_does():
    weight = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))
    assert scores(weight * 1000) == pytest.approx(scores(weight), rel=1e-6)
    assert np.argsort(scores(weight)).tolist() == secateur.score(chain(weight), "l2")["0"].argsort().tolist()


def test_the_global_ranking_is_greedy():
    """Again and again the unit goes that holds the least of what its layer still has."""
    generator = torch.Generator().manual_seed(2)
    first, second = torch.randn(9, 4, generator=generator), 30 * torch.randn(7, 9, generator=generator)
    g = chain(first, second)
    left = {n: dict(enumerate((w.double() ** 2).sum(1).tolist())) for n, w in (("0", first), ("2", second))}
    found = secateur.score(g, "lamp")
    ranking = sorted((found[n][u].item(), n, u) for n in left for u in left[n])
    for _, name, unit in ranking[:12]:
        shares = {(n, u): s / sum(units.values()) for n, units in left.items() for u, s in units.items()}
        assert min(shares, key=shares.get) == (name, unit)
        del left[name][unit]


def test_every_layer_keeps_its_largest_unit_by_rank_alone():
    """Its score is 1, which no other unit reaches: LAMP empties no layer."""
    found = secateur.score(graph("digits-vgg"), "lamp")
    assert all(s.max() == 1 and (s == 1).sum() == 1 for s in found.values())
    assert all((s >= 0).all() and s[s < 1].max() < 1 for s in found.values())


@pytest.mark.parametrize("reduction", ["mean", "sum", "first"])
def test_of_several_writers_norms_are_reduced_first(reduction):
    g = graph("padded")
    stem, block = (
        (g.model.get_parameter(n).detach().double() ** 2).sum((1, 2, 3)) for n in ("stem.0.weight", "b.0.weight")
    )
    block = block[1:7]  # stem channel i meets channel 1 + i of the block
    square = {"first": stem, "sum": stem + block, "mean": stem / stem.mean() + block / block.mean()}[reduction]
    expected = [s / square[square >= s].sum() for s in square]
    found = LAMP(reduction).score(g["stem.0"], Evidence(g.model))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=0)


def test_scores_of_groups_stand_on_one_scale():
    g = graph("digits-vgg")
    raw = {x.name: LAMP().score(x, Evidence(g.model)) for x in g.groups}
    assert all(torch.equal(s, raw[n]) for n, s in secateur.score(g, "lamp").items())
    widths = [secateur.allocate(g, secateur.score(g, c), secateur.Budget(macs=0.5)).widths(g) for c in (LAMP(), L2())]
    assert widths[0] != widths[1]


def test_the_contract():
    check_criterion("lamp")


def test_permuted_ties_keep_their_scores():
    weight = torch.tensor([[1.0], [2.0], [1.0], [3.0]])
    assert all(
        scores(weight[list(order)]) == pytest.approx([scores(weight)[i] for i in order])
        for order in itertools.permutations(range(4))
    )
