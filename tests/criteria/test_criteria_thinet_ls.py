"""ThiNet with a refit at every step against numpy's least squares on each set that is left."""

from itertools import combinations

import numpy as np
import pytest
from gram_nets import given, problem, random, rescaled_loss

from secateur.criteria.thinet import ThiNet
from secateur.criteria.thinet_ls import ThiNetLS


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_every_step_is_the_best_one_and_costs_what_numpy_says(seed, intercept):
    x, w = random(seed=seed)
    scores = ThiNetLS(intercept=intercept).score(*problem(x, w))
    z, left = given(x, w, centre=intercept), list(range(6))
    for j in scores.argsort().tolist()[:-1]:
        tried = {k: rescaled_loss(z, [i for i in left if i != k]) for k in left}
        assert min(tried, key=tried.get) == j
        assert float(scores[j]) == pytest.approx(tried[j], abs=1e-7)
        left.remove(j)
    assert float(scores.max()) == pytest.approx(1.0, abs=1e-7)  # all is gone


def test_one_step_is_the_best_of_all_subsets():
    x, w = random(seed=7)
    z, scores = given(x, w), ThiNetLS(intercept=False).score(*problem(x, w))
    best = min(combinations(range(6), 5), key=lambda kept: rescaled_loss(z, list(kept)))
    assert set(range(6)) - set(best) == {int(scores.argmin())}


def test_one_of_two_equal_channels_goes_at_no_cost_and_the_other_stays():
    """Their energy is the largest by far, which is why the published choice would never take them."""
    x, w = random()
    x[:, 4], w[:, 4] = 3 * x[:, 1], 2 * w[:, 1]
    scores, published = ThiNetLS().score(*problem(x, w)), ThiNet().score(*problem(x, w))
    first = int(scores.argmin())
    assert first in (1, 4)
    assert scores[first] < 1e-8
    assert scores[5 - first] > 1e-3
    assert published.argmin() not in (1, 4)


def test_a_dead_channel_goes_first_at_no_cost():
    x, w = random()
    x[:, 2] = 0.0
    scores = ThiNetLS().score(*problem(x, w))
    assert scores.argmin() == 2
    assert scores[2] < 1e-8


def test_a_constant_channel_is_what_an_intercept_stands_for():
    x, w = random()
    x[:, 2] = 5.0
    assert ThiNetLS().score(*problem(x, w))[2] < 1e-8
    assert ThiNetLS(intercept=False).score(*problem(x, w))[2] > 1e-3


@pytest.mark.parametrize(("rows", "channels"), [(2, 7), (4, 9)])
def test_more_columns_than_rows(rows, channels):
    """With one output as many contributions as rows say everything, so all others go for nothing."""
    x, w = random(rows=rows, channels=channels, m=2, outputs=1)
    scores = ThiNetLS(intercept=False).score(*problem(x, w)).sort().values
    assert (scores[: channels - rows] < 1e-6).all()
    assert scores[channels - rows] > 1e-6


def test_collinear_channels():
    """The third is the sum of the first two, so it can stand in for both, and neither of them for the other."""
    z = np.random.default_rng(3).standard_normal((50, 4))
    z[:, 2] = z[:, 0] + z[:, 1]
    scores = ThiNetLS(intercept=False).score(*problem(z[:, :, None], np.ones((1, 4, 1))))
    assert set(scores.argsort()[:2].tolist()) == {0, 1}
    assert scores[[0, 1]].max() < 1e-8
    assert scores[[2, 3]].min() > 1e-2


def test_readers_are_rescaled_each_by_itself():
    """Channel 1 is worth 1 of channel 0 to one reader and -2 to the other: one factor for both would not do."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 3, 1))
    x[:, 1] = x[:, 0]
    first, second = np.array([[[1.0], [1.0], [1.0]]]), np.array([[[1.0], [-2.0], [1.0]]])
    scores = ThiNetLS().score(*problem(x, first, second))
    assert scores[[0, 1]].min() < 1e-8


def test_nothing_to_read_and_single_units():
    x, w = random(channels=1)
    assert ThiNetLS().score(*problem(x, w)).tolist() == pytest.approx([1.0], abs=1e-8)
    nothing = ThiNetLS().score(*problem(x, 0 * w))
    assert nothing.isfinite().all()
    assert nothing.max() < 1e-8
