"""Geometric median: what only this paper says."""

import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn

import secateur


def scores(weight, criterion="fpgm"):
    model = nn.Sequential(nn.Linear(weight.shape[1], len(weight), bias=False), nn.ReLU(), nn.Linear(len(weight), 2))
    model[0].weight.data.copy_(weight)
    graph = secateur.trace(model, torch.zeros(1, weight.shape[1]))
    return secateur.score(graph, criterion)["0"]


def test_scores_are_sums_of_distances():
    weight = torch.randn(7, 5)
    expected = torch.from_numpy(cdist(weight.double(), weight.double()).sum(1))
    torch.testing.assert_close(scores(weight), expected / expected.mean())


def test_of_three_points_on_a_line_the_middle_one_goes():
    assert scores(torch.tensor([[0.0, 0.0], [5.0, 5.0], [2.0, 2.0]])).argmin() == 2


def test_duplicates_of_the_median_have_the_smallest_scores():
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0], [0.0, 0.0]])
    assert set(scores(weight).argsort()[:2].tolist()) == {4, 5}


def test_a_rotation_of_filter_space_changes_nothing():
    weight = torch.randn(6, 4, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))
    torch.testing.assert_close(scores(weight @ rotation), scores(weight), rtol=1e-5, atol=1e-7)


def test_the_largest_norm_may_go_first():
    weight = torch.tensor([[3.0, 3.1], [3.0, 2.9], [3.0, 3.0], [1.0, 6.0], [6.0, 1.0]])
    assert scores(weight).argmin() == 2
    assert scores(weight, "l2").argmin() != 2


@pytest.mark.parametrize("allocator", ["ranked", "uniform"])
def test_it_prunes(allocator):
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    pruned = secateur.prune(
        model, torch.zeros(1, 6), budget=secateur.Budget(macs=0.5), criterion="fpgm", allocator=allocator
    )
    assert pruned.after.macs <= 0.5 * pruned.before.macs
