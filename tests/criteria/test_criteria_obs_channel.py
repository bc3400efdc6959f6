"""OBS by channels against numpy's least squares on the columns that are left, and against ranking once."""

import numpy as np
import pytest
import torch
from gram_nets import loss_of, problem, random

from secateur.criteria.obs_channel import OBSChannel


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_every_step_is_the_best_one_and_costs_what_a_refit_costs(seed, intercept):
    x, w = random(rows=60, seed=seed)
    scores = OBSChannel(ridge=1e-11, intercept=intercept).score(*problem(x, w))
    left = list(range(6))
    for j in scores.argsort().tolist()[:-1]:
        tried = {k: loss_of(x, w, [i for i in left if i != k], intercept=intercept) for k in left}
        assert min(tried, key=tried.get) == j
        assert float(scores[j]) == pytest.approx(tried[j], abs=1e-8)
        left.remove(j)


def test_ranked_once_it_is_the_loss_of_each_alone():
    x, w = random(rows=60)
    once = OBSChannel(exact=False, ridge=1e-11).score(*problem(x, w))
    expected = [loss_of(x, w, [i for i in range(6) if i != k], intercept=True) for k in range(6)]
    np.testing.assert_allclose(once.numpy(), expected, rtol=1e-6)
    exact = OBSChannel(ridge=1e-11).score(*problem(x, w))
    assert once.argmin() == exact.argmin()
    torch.testing.assert_close(once.min(), exact.min())


def test_channels_that_others_span_cost_nothing_whatever_the_weights():
    """Channel 3 is a mixture of channels 0 and 1, but its weights are those of neither: no factors could do it."""
    x, w = random(rows=60)
    x[:, 3] = x[:, 0] - 2 * x[:, 1]
    scores = OBSChannel(ridge=1e-9).score(*problem(x, w)).sort()
    assert int(scores.indices[0]) in (0, 1, 3)
    assert scores.values[0] < 1e-7
    assert scores.values[1] > 1e-4


def test_two_readers_add_up():
    x, w = random(rows=60)
    _, other = random(outputs=2, seed=1)
    once = OBSChannel(exact=False, ridge=1e-11).score(*problem(x, w, 50 * other))
    expected = [
        sum(loss_of(x, v, [i for i in range(6) if i != k], intercept=True) for v in (w, other)) / 2 for k in range(6)
    ]
    np.testing.assert_allclose(once.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_dead_constant_single_and_more_columns_than_rows(exact):
    criterion = OBSChannel(exact=exact)
    x, w = random()
    x[:, 1], x[:, 4] = 0.0, 3.0
    scores = criterion.score(*problem(x, w))
    assert set(scores.argsort()[:2].tolist()) == {1, 4}
    assert scores[[1, 4]].max() < 1e-5
    x, w = random(channels=1)
    assert criterion.score(*problem(x, w)).tolist() == pytest.approx([1.0], abs=1e-4)
    assert criterion.score(*problem(x, 0 * w)).isfinite().all()
    x, w = random(rows=5, channels=7, m=3)
    scores = criterion.score(*problem(x, w))
    assert scores.isfinite().all()
    assert scores.min() < 1e-4  # 18 columns are enough for 5 rows
