"""Fits and eliminations from Gram matrices against numpy's least squares on the rows themselves."""

import numpy as np
import pytest
import torch

from secateur.evidence.least_squares import (
    Elimination,
    Layer,
    centred,
    eliminate,
    energy,
    loaded,
    refit,
    residual,
    solve,
)


def rows(count=50, columns=8, seed=0):
    """(X, W): correlated columns with means, and weights (3, columns)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, columns)) @ (np.eye(columns) + 0.5 * rng.standard_normal((columns, columns)))
    return x + rng.standard_normal(columns), rng.standard_normal((3, columns))


def tensors(x, w):
    return torch.from_numpy(x.T @ x), torch.from_numpy(w), torch.from_numpy(x.sum(0)), len(x)


KEPT = [0, 2, 3, 6]


def test_without_an_intercept_it_is_numpys_fit():
    """The inner fit of AMC (He et al., ECCV 2018): what all inputs gave, from some of them."""
    x, w = rows()
    gram, weight, _, _ = tensors(x, w)
    fitted, intercept = refit(gram, weight, torch.tensor(KEPT))
    expected = np.linalg.lstsq(x[:, KEPT], x @ w.T, rcond=None)[0].T
    np.testing.assert_allclose(fitted, expected, atol=1e-10)
    assert not intercept.any()
    error = ((x @ w.T - x[:, KEPT] @ expected.T) ** 2).sum()
    assert residual(gram, weight, torch.tensor(KEPT), fitted) == pytest.approx(error)


def test_with_an_intercept_it_is_numpys_fit():
    x, w = rows()
    gram, weight, total, count = tensors(x, w)
    fitted, intercept = refit(gram, weight, torch.tensor(KEPT), total=total, count=count)
    expected = np.linalg.lstsq(np.c_[x[:, KEPT], np.ones(len(x))], x @ w.T, rcond=None)[0].T
    np.testing.assert_allclose(fitted, expected[:, :-1], atol=1e-10)
    np.testing.assert_allclose(intercept, expected[:, -1], atol=1e-10)


def test_all_columns_give_the_weights_back():
    x, w = rows()
    gram, weight, total, count = tensors(x, w)
    for options in ({}, {"total": total, "count": count}, {"ridge": 0.5}):
        fitted, intercept = refit(gram, weight, torch.arange(8), **options)
        torch.testing.assert_close(fitted, weight)
        torch.testing.assert_close(intercept, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_ridge_pulls_towards_the_weights_as_they_are():
    x, w = rows()
    gram, weight, _, _ = tensors(x, w)
    for ridge in (1e-3, 1.0, 1e9):
        fitted, _ = refit(gram, weight, torch.tensor(KEPT), ridge=ridge)
        load = ridge * np.diag(x[:, KEPT].T @ x[:, KEPT]).mean()
        augmented = np.r_[x[:, KEPT], np.sqrt(load) * np.eye(4)]
        expected = np.linalg.lstsq(augmented, np.r_[x @ w.T, np.sqrt(load) * w[:, KEPT].T], rcond=None)[0].T
        np.testing.assert_allclose(fitted, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(fitted, weight[:, KEPT])


@pytest.mark.parametrize("ridge", [0.0, 1e-9])
def test_dependent_columns_and_more_columns_than_rows(ridge):
    """Of all best fits the one nearest to the weights as they are; an exact one where there is one."""
    x, w = rows()
    x[:, 6] = x[:, 0] - x[:, 2]
    x[:, 1] = 3 * x[:, 3]
    gram, weight, _, _ = tensors(x, w)
    fitted, _ = refit(gram, weight, torch.tensor([0, 2, 3, 4, 5, 6, 7]), ridge=ridge)
    assert residual(gram, weight, torch.tensor([0, 2, 3, 4, 5, 6, 7]), fitted) < 1e-6
    np.testing.assert_allclose(fitted[:, 2], w[:, 3] + 3 * w[:, 1], atol=1e-5)
    np.testing.assert_allclose(fitted[:, [0, 1, 5]], w[:, [0, 2, 6]], atol=1e-5)
    x, w = rows(count=4)
    gram, weight, _, _ = tensors(x, w)
    fitted, _ = refit(gram, weight, torch.arange(6), ridge=ridge)
    assert residual(gram, weight, torch.arange(6), fitted) < 1e-6 * energy(gram, weight)


def test_what_the_shortcut_lost_can_be_asked_of_the_branch():
    """He et al., ICCV 2017: a branch that aims at its own output less delta makes the sum exact where it can give it.

    The shortcut gives delta too much; delta is in the span of what the branch reads.
    """
    x, w = rows()
    rng = np.random.default_rng(1)
    shortcut = rng.standard_normal((50, 3))
    delta = x[:, KEPT] @ rng.standard_normal((4, 3))
    w[:, [1, 4, 5, 7]] = 0.0  # what is cut is not missed
    target = x @ w.T - delta
    kept = torch.from_numpy(x[:, KEPT])
    old = torch.from_numpy(w[:, KEPT])
    fitted = old + solve(kept.T @ kept, kept.T @ (torch.from_numpy(target) - kept @ old.T), 0.0).T
    total = (shortcut + delta) + x[:, KEPT] @ fitted.numpy().T
    np.testing.assert_allclose(total, shortcut + x @ w.T, atol=1e-10)


def test_the_sums_of_centred_rows():
    x, w = rows()
    gram, weight, total, count = tensors(x, w)
    own = x - x.mean(0)
    np.testing.assert_allclose(centred(gram, total, count), own.T @ own, atol=1e-9)
    assert float(energy(gram, weight)) == pytest.approx(((x @ w.T) ** 2).sum())


def brought_down(x, w, columns, units, ridge=0.0):
    """Remove these units; by how much the square error rose in all, and the weights."""
    gram, weight, _, _ = tensors(x, w)
    state, total = Elimination(Layer(gram, weight, torch.tensor(columns)), ridge), 0.0
    for unit in units:
        total += float(state.costs()[unit])
        state.remove(unit)
    return total, state


def test_a_removal_costs_what_the_refit_costs_and_leaves_the_refit():
    """Optimal brain surgeon on a linear model is least squares on the remaining columns, those of no unit included."""
    x, w = rows()
    gram, weight, _, _ = tensors(x, w)
    gone = [1, 4, 5, 7]
    cost, state = brought_down(x, w, [[0, 3, 2, 6], gone], [1])
    fit = np.linalg.lstsq(x[:, KEPT], x @ w.T, rcond=None)[0]
    assert cost == pytest.approx(((x @ w.T - x[:, KEPT] @ fit) ** 2).sum())
    refitted = state.weight()
    np.testing.assert_allclose(refitted[:, KEPT], fit.T, atol=1e-9)
    np.testing.assert_allclose(refitted[:, KEPT], refit(gram, weight, torch.tensor(KEPT))[0], atol=1e-9)
    assert not refitted[:, gone].any()
    other, state = brought_down(x, w, [gone], [0])  # the rest belongs to no unit
    assert other == pytest.approx(cost)
    torch.testing.assert_close(state.weight(), refitted)


@pytest.mark.parametrize("order", [[1, 4, 5, 7], [7, 5, 4, 1], [4, 7, 1, 5]])
def test_steps_add_up_to_one(order):
    """The inverse brought down step by step is that of what is left: costs and weights are those of one step."""
    x, w = rows()
    cost, state = brought_down(x, w, [[k] for k in range(8)], order)
    once, other = brought_down(x, w, [[1, 4, 5, 7]], [0])
    assert cost == pytest.approx(once)
    torch.testing.assert_close(state.weight(), other.weight())
    costs = state.costs()
    assert costs[order].isinf().all()
    direct = np.linalg.inv(x[:, KEPT].T @ x[:, KEPT])
    fit = np.linalg.lstsq(x[:, KEPT], x @ w.T, rcond=None)[0]
    np.testing.assert_allclose(costs[KEPT], (fit**2).sum(1) / np.diag(direct), rtol=1e-9)


def test_a_group_of_one_is_the_scalar_formula():
    """s_q = w_q^2 / (2 [H^-1]_qq), of a loss half the square error."""
    x, w = rows()
    costs = brought_down(x, w, [[k] for k in range(8)], [])[1].costs()
    inverse = np.linalg.inv(x.T @ x)
    np.testing.assert_allclose(costs / 2, (w**2).sum(0) / (2 * np.diag(inverse)), rtol=1e-9)


def test_a_diagonal_matrix_makes_it_optimal_brain_damage():
    """s_q = H_qq w_q^2 / 2, summed over the unit, and no other weight moves."""
    h = torch.tensor([2.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    weight = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state = Elimination(Layer(torch.diag(h), weight, torch.tensor([[0, 2], [1, 3]])), 0.0)
    each = (h * weight**2).sum(0)
    torch.testing.assert_close(state.costs(), torch.stack([each[0] + each[2], each[1] + each[3]]))
    state.remove(0)
    assert torch.equal(state.weight()[:, [1, 3]], weight[:, [1, 3]])


@pytest.mark.parametrize("ridge", [1e-12, 1e-2])
def test_an_elimination_is_that_of_refits_from_scratch(ridge):
    """Two layers, units of two columns: order and error of brute force, whose ridge counts in the error, too."""
    layers, grams = [], []
    for seed in (0, 1):
        gram, weight, _, _ = tensors(*rows(seed=seed))
        layers.append(Layer(gram, weight, torch.arange(8).reshape(4, 2)))
        grams.append(loaded(gram, ridge))
    order, cost = eliminate(layers, ridge=ridge)
    left = list(range(4))
    for j, error in zip(order.tolist()[:-1], cost.tolist(), strict=False):
        tried = {}
        for k in left:
            kept = torch.tensor([c for u in left if u != k for c in (2 * u, 2 * u + 1)])
            fits = [refit(g, x.weight, kept)[0] for g, x in zip(grams, layers, strict=True)]
            pairs = zip(grams, layers, fits, strict=True)
            tried[k] = sum(residual(g, x.weight, kept, f) for g, x, f in pairs)
        assert min(tried, key=tried.get) == j
        assert error == pytest.approx(tried[j], rel=1e-6)
        left.remove(j)
    assert cost[-1] == pytest.approx(sum(float(energy(g, x.weight)) for g, x in zip(grams, layers, strict=True)))


def test_a_gram_matrix_of_nothing():
    nothing = torch.zeros(4, 4, dtype=torch.float64)
    weight = torch.ones(2, 4, dtype=torch.float64)
    fitted, _ = refit(nothing, weight, torch.tensor([0, 2]), ridge=1e-3)
    assert torch.equal(fitted, weight[:, [0, 2]])
    fitted, _ = refit(nothing, weight, torch.tensor([0, 2]))
    assert torch.equal(fitted, weight[:, [0, 2]])
