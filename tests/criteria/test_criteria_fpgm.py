"""Geometric median: what only this paper says, and distances as exact as the weights."""

import copy

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn

import secateur
from nets import graph
from secateur.criteria.fpgm import FPGM, ROWS, distance_sums
from secateur.errors import BadOption
from secateur.testing import check_criterion


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


@pytest.mark.parametrize(("rate", "small"), [(1.0, 0), (0.9, 1), (0.7, 3), (0.65, 3), (0.01, 9)])
def test_the_norm_stage_goes_first(rate, small):
    """The smallest by L2 norm, int(10 * (1 - rate)) of them, go in that order; then the rest by distances to the rest.

    In floats int(10 * (1 - 0.9)) is 0.
    """
    weight = torch.randn(10, 5, generator=torch.Generator().manual_seed(0))
    by_norm = weight.norm(dim=1).argsort().tolist()
    rest = np.array(sorted(by_norm[small:]))
    distances = cdist(weight.double()[rest], weight.double()[rest]).sum(1)
    expected = by_norm[:small] + rest[distances.argsort()].tolist()
    found = scores(weight, FPGM(rate_norm=rate))
    assert found.argsort().tolist() == expected
    if small < 9:
        np.testing.assert_allclose(found[rest] / found[rest[0]], distances / distances[0], rtol=1e-5)


def test_the_norm_stage_without_distances():
    """Where what it leaves is all alike, no score lies below those of the rest; and equal norms go by number."""
    weight = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 1.0], [1.0, 0.0], [3.0, 0.0]])
    assert scores(weight, FPGM(rate_norm=0.6)).argsort(stable=True)[:2].tolist() == [2, 3]


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_norm_stage_that_leaves_nothing_is_refused(rate):
    with pytest.raises(BadOption, match="rate_norm="):
        FPGM(rate_norm=rate)


@pytest.mark.parametrize("allocator", ["ranked", "uniform"])
def test_it_prunes(allocator):
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    pruned = secateur.prune(
        model, torch.zeros(1, 6), budget=secateur.Budget(macs=0.5), criterion="fpgm", allocator=allocator
    )
    assert pruned.after.macs <= 0.5 * pruned.before.macs


def spread(kind, rows, columns):
    """Filters as they may be: of one size; around a common one; nearly equal; half of them dead; one of them huge."""
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    if kind == "around a common one":
        x = 100 + x
    elif kind == "nearly equal":
        x[1::2] = x[0] + 1e-4 * x[1::2]
    elif kind == "half dead":
        x[::2] = 0
    elif kind == "one huge":
        x[0] *= 1e6
    elif kind == "of all sizes":
        x *= torch.logspace(-4, 4, rows, dtype=torch.float64)[:, None]
    return x


KINDS = ["of one size", "around a common one", "nearly equal", "half dead", "one huge", "of all sizes"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (ROWS, 9), (ROWS + 1, 40), (10 * ROWS + 7, 33)])
def test_sums_of_distances_are_as_exact_as_the_weights(kind, dtype, tolerance, rows, columns):
    x = spread(kind, rows, columns).to(dtype)
    expected = cdist(x.double(), x.double()).sum(1)
    found = distance_sums(x.clone())
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30, 1e30])
def test_equal_filters_are_at_distance_zero_exactly(dtype, value):
    """Also where products would leave a remainder, in the same tile and in others."""
    row = value * (1 + torch.rand(1, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).to(dtype)
    assert (distance_sums(row.repeat(3 * ROWS, 1)) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_kinds_of_filters_have_two_scores(dtype):
    a, b = torch.randn(2, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    x = torch.stack([a, b]).repeat_interleave(torch.tensor([2 * ROWS, ROWS]), 0)
    apart = (a.double() - b.double()).norm()
    expected = torch.cat([torch.full((2 * ROWS,), ROWS) * apart, torch.full((ROWS,), 2 * ROWS) * apart])
    torch.testing.assert_close(distance_sums(x), expected, rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights(dtype):
    g = graph("plain")
    half = copy.deepcopy(g.model).to(dtype)
    w = half.one[0].weight.detach().double().flatten(1)
    found = secateur.score(secateur.trace(half, g.example.to(dtype)), "fpgm")["one.0"]
    expected = cdist(w, w).sum(1)
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-6)


def test_one_distance_matrix_for_each_writer():
    g = graph("padded")
    stem, block = (g.model.get_parameter(n).detach().double().flatten(1) for n in ("stem.0.weight", "b.0.weight"))
    each = [cdist(x, x).sum(1) for x in (stem, block[1:7])]  # stem channel i meets channel 1 + i of the block
    expected = sum(e / e.mean() for e in each)
    np.testing.assert_allclose(secateur.score(g, "fpgm")["stem.0"], expected / expected.mean(), rtol=1e-6)


def test_a_filter_alone():
    assert distance_sums(torch.randn(1, 4)).tolist() == [0.0]


def test_the_contract():
    check_criterion("fpgm")
