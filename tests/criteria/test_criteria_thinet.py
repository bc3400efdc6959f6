"""ThiNet's greedy choice against sums over samples, subsets tried one by one, and what duplicates do to it."""

from itertools import combinations

import numpy as np
import pytest
import torch
from gram_nets import given, problem, random

from secateur.criteria.thinet import ThiNet


def order_of(scores):
    return scores.argsort().tolist()


def greedy(z):
    """The paper's algorithm on samples: z (rows, C)."""
    gone, left, costs = [], list(range(z.shape[1])), []
    while left:
        tried = [((z[:, [*gone, j]].sum(1)) ** 2).sum() for j in left]
        costs.append(min(tried))
        gone.append(left.pop(int(np.argmin(tried))))
    return gone, np.array(costs)


@pytest.mark.parametrize("seed", range(4))
def test_order_and_costs_are_those_of_the_algorithm_on_samples(seed):
    x, w = random(seed=seed)
    scores = ThiNet().score(*problem(x, w))
    z = given(x, w)
    order, costs = greedy(z)
    assert order_of(scores) == order
    expected = np.maximum.accumulate(costs / (z.sum(1) ** 2).sum())
    np.testing.assert_allclose(scores[order].numpy(), expected, rtol=1e-9, atol=1e-9)


def test_each_step_is_the_best_among_the_sets_that_contain_the_last():
    """The first step is the best of all subsets of one; a later one need not be the best of all of its size."""
    x, w = random(seed=5)
    z = given(x, w)
    order = order_of(ThiNet().score(*problem(x, w)))

    def cost(gone):
        return (z[:, list(gone)].sum(1) ** 2).sum()

    assert cost(order[:1]) == min(cost(c) for c in combinations(range(6), 1))
    for n in range(2, 6):
        within = [c for c in combinations(range(6), n) if set(order[: n - 1]) <= set(c)]
        assert np.isclose(cost(order[:n]), min(cost(c) for c in within))


def test_a_dead_channel_goes_first_at_no_cost():
    x, w = random()
    x[:, 2] = 0.0
    scores = ThiNet().score(*problem(x, w))
    assert scores.argmin() == 2
    assert scores[2] == 0.0


def test_a_channel_that_nothing_hears_goes_first():
    x, w = random()
    w[:, 4] = 0.0
    assert ThiNet().score(*problem(x, w)).argmin() == 4


def test_a_cancelling_pair_costs_nothing_jointly():
    """Alone each of them costs its energy; once one is gone the other brings the loss back to nothing."""
    x, w = random()
    x[:, 1] *= 0.2  # the smallest, so that it goes first
    x[:, 3], w[:, 3] = x[:, 1], -w[:, 1]
    scores = ThiNet().score(*problem(x, w))
    first, second = order_of(scores)[:2]
    assert {first, second} == {1, 3}
    z = given(x, w)
    assert np.isclose(float(scores[first]), (z[:, 1] ** 2).sum() / (z.sum(1) ** 2).sum())
    assert 0 < scores[second] - scores[first] < 1e-9  # no lower than its forerunner, though nothing is lost by then


def test_a_duplicate_is_not_preferred():
    """Two equal channels are as good as one twice as strong, but the published choice takes the smallest energy."""
    rng = np.random.default_rng(0)
    z = np.linalg.qr(rng.standard_normal((60, 3)))[0] * [2.0, 0, 1.0]
    z[:, 1] = z[:, 0]
    scores = ThiNet().score(*problem(z[:, :, None], np.ones((1, 3, 1))))
    assert scores.argmin() == 2


def test_several_readers_count_by_their_relative_error():
    x, w = random(outputs=4)
    _, other = random(outputs=7, seed=1)
    other *= 100.0
    grams = [(z.T @ z) / (z.sum(1) ** 2).sum() for z in (given(x, w), given(x, other))]
    scores = ThiNet().score(*problem(x, w, other))
    root = np.linalg.cholesky(sum(grams) / 2).T  # columns with these inner products
    order, costs = greedy(root)
    assert order_of(scores) == order
    np.testing.assert_allclose(scores[order].numpy(), np.maximum.accumulate(costs), rtol=1e-9, atol=1e-9)


def test_what_a_dead_reader_reads_does_not_count():
    x, w = random()
    alone = ThiNet().score(*problem(x, w))
    torch.testing.assert_close(ThiNet().score(*problem(x, w, np.zeros((3, 6, 3)))), alone)
    nothing = ThiNet().score(*problem(x, np.zeros((3, 6, 3))))
    assert order_of(nothing) == list(range(6))
    assert nothing.max() < 1e-11


def test_ties_go_by_number_and_scores_are_never_equal():
    z = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 5)))[0]
    z[:, 3] = 0.0
    scores = ThiNet().score(*problem(z[:, :, None] * [[[0.0]]], np.ones((2, 5, 1))))
    assert order_of(scores) == [0, 1, 2, 3, 4]
    x, w = random()
    x[:, [0, 2, 5]] = 0.0
    scores = ThiNet().score(*problem(x, w))
    assert order_of(scores)[:3] == [0, 2, 5]
    assert len(set(scores.tolist())) == 6


def test_a_single_unit_is_all_there_is():
    scores = ThiNet().score(*problem(np.random.default_rng(0).standard_normal((9, 1, 2)), np.ones((3, 1, 2))))
    assert scores.tolist() == pytest.approx([1.0])


def test_more_columns_than_rows():
    x, w = random(rows=4, channels=8, m=5)
    scores = ThiNet().score(*problem(x, w))
    assert order_of(scores) == greedy(given(x, w))[0]
