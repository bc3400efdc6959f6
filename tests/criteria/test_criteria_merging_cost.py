"""What merging costs, as a criterion: the least of what its merges would cost."""

import pytest
import torch
from torch import nn

import secateur
from nets import fill, graph, images
from secateur.criteria.merging import saliency_of
from secateur.criteria.merging_cost import MergingCost
from secateur.errors import BadModel
from secateur.evidence.base import Evidence
from secateur.testing import check_criterion


def test_the_contract():
    check_criterion("merging-cost")


def test_a_unit_scores_what_its_cheapest_merge_costs():
    g = graph("plain")
    for group in g.groups:
        found, matrix = MergingCost().score(group, Evidence(g.model)), saliency_of(group, Evidence(g.model)).matrix
        for unit in range(group.size):
            assert found[unit] == min(matrix[i, unit] for i in range(group.size) if i != unit)


def test_a_duplicate_and_its_original_score_nothing_and_so_does_a_unit_that_nothing_reads():
    net = fill(nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4)))
    with torch.no_grad():
        for tensor in (net[0].weight, net[0].bias, net[1].weight, net[1].bias, net[1].running_mean, net[1].running_var):
            tensor[7] = tensor[2]
        net[3].weight[:, 4] = 0
    g = secateur.trace(net, images(3, 6))
    assert (secateur.score(g, "merging-cost")["0"] == 0).nonzero().flatten().tolist() == [2, 4, 7]


def depthwise():
    """Units 1 and 4 have equal rows, and depthwise kernels behind them."""
    layers = nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU(), nn.Conv2d(6, 4, 1)
    net = fill(nn.Sequential(*layers)).double().eval()
    with torch.no_grad():
        net[0].weight[4], net[0].bias[4] = net[0].weight[1], net[0].bias[1]
    return net


def test_equal_rows_are_no_duplicates_where_depthwise_kernels_behind_them_differ():
    """No two kernels agree, so that none can take over: each costs <a_j^2> |w_j|^2."""
    net = depthwise()
    found = secateur.score(secateur.trace(net, images(2, 2, 8, 8).double()), "merging-cost")["0"]
    with torch.no_grad():
        rows = torch.cat([net[0].weight.flatten(1), net[0].bias[:, None]], 1)
        alone = net[4].weight.flatten(1).square().mean(0) * rows.square().sum(1)
    torch.testing.assert_close(found / found.mean(), alone / alone.mean())


def test_they_are_where_all_that_is_behind_them_agrees():
    net = depthwise()
    with torch.no_grad():
        net[2].weight[4], net[2].bias[4] = net[2].weight[1], net[2].bias[1]
    found = secateur.score(secateur.trace(net, images(2, 2, 8, 8).double()), "merging-cost")["0"]
    assert (found == 0).nonzero().flatten().tolist() == [1, 4]


def test_the_weights_before_a_norm_do_not_count_where_the_norm_undoes_them():
    net = fill(nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9, eps=0.0), nn.ReLU(), nn.Linear(9, 4))).double()
    g = secateur.trace(net, images(3, 6).double())
    before = secateur.score(g, "merging-cost")["0"]
    with torch.no_grad():
        for tensor, power in ((net[0].weight, 1), (net[0].bias, 1), (net[1].running_mean, 1), (net[1].running_var, 2)):
            tensor[3] *= 5.0**power
    torch.testing.assert_close(secateur.score(g, "merging-cost")["0"], before)


def test_a_group_of_one_unit():
    g = secateur.trace(fill(nn.Sequential(nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 2))), images(2, 3))
    assert MergingCost().score(g["0"], Evidence(g.model)).tolist() == [0.0]


def test_a_group_whose_weights_are_computed_is_refused():
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(7, 5)), nn.ReLU(), nn.Linear(5, 2))
    g = secateur.trace(fill(net), images(4, 7))
    with pytest.raises(BadModel, match="computed from others"):
        secateur.score(g, "merging-cost")
