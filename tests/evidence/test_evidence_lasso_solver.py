"""LASSO from a Gram matrix: closed forms, scikit-learn, the worked example to the last digit, degenerate designs."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from sklearn.linear_model import Lasso, lars_path_gram

from secateur.evidence.lasso_solver import entries, largest_penalty, lasso, lasso_count, lasso_path

# Contributions of energy 4, 1, 0.25 and 1.44; the first and the last have correlation 0.9.
EXAMPLE = np.diag([4.0, 1.0, 0.25, 1.44])
EXAMPLE[0, 3] = EXAMPLE[3, 0] = 0.9 * 2.0 * 1.2
TARGET = EXAMPLE.sum(1)
TABLE = {
    0.0: (1, 1, 1, 1),
    0.1: (1.066, 0.900, 0.600, 0.832),
    0.25: (1.164, 0.750, 0, 0.580),
    0.5: (1.329, 0.500, 0, 0.159),
    0.9: (1.315, 0.100, 0, 0),
    1.0: (1.290, 0, 0, 0),
    5.0: (0.290, 0, 0, 0),
    6.16: (0, 0, 0, 0),
}


def design(rows, columns, seed, noise=0.0):
    """(Z, y): correlated columns of different size; y is their sum, and noise."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((rows, columns)) @ (np.eye(columns) + 0.5 * rng.standard_normal((columns, columns)))
    z *= rng.uniform(0.2, 2, columns)
    return z, z.sum(1) + noise * rng.standard_normal(rows)


def sums(z, y):
    return z.T @ z / len(z), z.T @ y / len(z)


def value(gram, target, penalty, b):
    return 0.5 * b @ gram @ b - target @ b + penalty * np.abs(b).sum()


def on_path(bends, penalty):
    """The coefficients between two bends, on a straight line."""
    for (high, b_high), (low, b_low) in pairwise(bends):
        if low <= penalty <= high:
            return b_low + (b_high - b_low) * (penalty - low) / (high - low)
    return bends[0][1]


@pytest.mark.parametrize("penalty", TABLE)
def test_the_worked_example(penalty):
    expected = TABLE[penalty]
    for found in (lasso(EXAMPLE, TARGET, penalty), on_path(lasso_path(EXAMPLE, TARGET), penalty)):
        assert found.round(3).tolist() == pytest.approx(expected, abs=5.1e-4)
        assert [b == 0 for b in found] == [b == 0 for b in expected]


def test_the_bends_of_the_worked_example():
    bends = lasso_path(EXAMPLE, TARGET)
    assert largest_penalty(TARGET) == pytest.approx(6.16)
    assert [p for p, _ in bends] == pytest.approx([6.16, 1.0, 0.2736 / 0.46, 0.25, 0.0])
    assert entries(bends).tolist() == pytest.approx([6.16, 1.0, 0.25, 0.2736 / 0.46])
    assert [lasso_count(EXAMPLE, TARGET, n).tolist() for n in (1, 2, 3, 4)] == [[0], [0, 1], [0, 1, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_it_is_scikit_learns(seed, noise):
    z, y = design(30, 8, seed, noise)
    gram, target = sums(z, y)
    bends = lasso_path(gram, target)
    for part in (0.95, 0.5, 0.2, 0.05, 0.01):
        penalty = part * largest_penalty(target)
        expected = Lasso(alpha=penalty, fit_intercept=False, tol=1e-13, max_iter=100_000).fit(z, y).coef_
        np.testing.assert_allclose(lasso(gram, target, penalty, tol=1e-13), expected, atol=1e-6)
        np.testing.assert_allclose(on_path(bends, penalty), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_bends_are_scikit_learns(seed):
    z, y = design(40, 12, seed, noise=3.0)
    gram, target = sums(z, y)
    penalties, _, coefficients = lars_path_gram(target * 40, gram * 40, n_samples=40, method="lasso")
    bends = lasso_path(gram, target)
    np.testing.assert_allclose([p for p, _ in bends], penalties, atol=1e-9)
    np.testing.assert_allclose(np.array([b for _, b in bends]).T, coefficients, atol=1e-6)


def test_uncorrelated_columns_in_closed_form():
    """b_i = max(0, 1 - penalty / e_i): a ranking by energy, whose count falls as the penalty rises."""
    e = np.array([3.0, 0.5, 1.0, 2.0, 0.1])
    counts = []
    for penalty in np.linspace(0, 3.2, 33):
        expected = np.maximum(0, 1 - penalty / e)
        np.testing.assert_allclose(lasso(np.diag(e), e, penalty), expected, atol=1e-12)
        np.testing.assert_allclose(on_path(lasso_path(np.diag(e), e), penalty), expected, atol=1e-12)
        counts.append(np.count_nonzero(lasso(np.diag(e), e, penalty)))
    assert counts == sorted(counts, reverse=True)
    np.testing.assert_allclose(entries(lasso_path(np.diag(e), e)), e)
    for n in range(1, 6):
        assert lasso_count(np.diag(e), e, n).tolist() == sorted(np.argsort(-e)[:n].tolist())


@pytest.mark.parametrize("seed", range(4))
def test_from_the_largest_penalty_on_nothing_is_left(seed):
    gram, target = sums(*design(30, 8, seed))
    top = largest_penalty(target)
    assert not lasso(gram, target, top).any()
    assert not lasso(gram, target, 2 * top).any()
    assert np.count_nonzero(lasso(gram, target, top * (1 - 1e-6))) == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_support_is_found_and_is_the_best_subset(seed):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((400, 8))
    planted = sorted(rng.permutation(8)[:3].tolist())
    y = z[:, planted].sum(1)
    assert lasso_count(*sums(z, y), 3).tolist() == planted

    def left(kept):
        fit = z[:, kept] @ np.linalg.lstsq(z[:, kept], y, rcond=None)[0]
        return ((y - fit) ** 2).sum()

    assert min(combinations(range(8), 3), key=lambda kept: left(list(kept))) == tuple(planted)


def rising_count():
    """A design on which a column leaves as the penalty falls."""
    for seed in range(200):
        gram, target = sums(*design(12, 10, seed, noise=4.0))
        counts = [np.count_nonzero(b) for _, b in lasso_path(gram, target)]
        if any(after < before for before, after in pairwise(counts)):
            return gram, target
    raise AssertionError("no such design among 200")


def test_counts_that_do_not_fall_with_the_penalty_are_no_trouble():
    """The largest penalty with so many counts."""
    gram, target = rising_count()
    bends = lasso_path(gram, target)
    for n in range(1, 11):
        inside = next(b for _, b in bends if np.count_nonzero(b) == n) != 0
        assert lasso_count(gram, target, n).tolist() == np.flatnonzero(inside).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_the_count_is_that_of_bisection(seed):
    """As the paper does it: raise the penalty while too many are in, lower it while too few are."""
    gram, target = sums(*design(60, 12, seed))
    for n in range(1, 12):
        low, high = 0.0, largest_penalty(target)
        for _ in range(60):
            inside = np.flatnonzero(lasso(gram, target, (low + high) / 2, tol=1e-12))
            if len(inside) == n:
                break
            low, high = ((low + high) / 2, high) if len(inside) > n else (low, (low + high) / 2)
        assert lasso_count(gram, target, n).tolist() == inside.tolist()


def degenerate(kind, rng):
    z = rng.standard_normal((int(rng.integers(3, 30)), int(rng.integers(2, 10))))
    if kind == "equal":
        z[:, -1] = z[:, 0]
    elif kind == "opposite":
        z[:, -1] = -z[:, 0]
    elif kind == "dead":
        z[:, int(rng.integers(z.shape[1]))] = 0
    elif kind == "sum":
        z[:, -1] = z[:, :-1].sum(1)
    elif kind == "line":  # of three columns on a line two are in at a time, and when one leaves the third must come
        z = np.c_[z, 2 * z[:, 0] - z[:, 1]]
    elif kind == "ties":
        z = np.linalg.qr(rng.standard_normal((z.shape[1] + 5, z.shape[1])))[0]
    return z


@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("kind", ["equal", "opposite", "dead", "sum", "line", "ties"])
def test_both_solvers_reach_the_same_least_value_on_degenerate_designs(kind, noise):
    """Coefficients may differ where several are best; what they reach may not."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        z = degenerate(kind, rng)
        gram, target = sums(z, z.sum(1) + noise * rng.standard_normal(len(z)))
        bends = lasso_path(gram, target)
        assert bends[-1][0] == 0
        for part in (0.9, 0.5, 0.1, 0.02):
            penalty = part * largest_penalty(target)
            a, b = lasso(gram, target, penalty, tol=1e-13, sweeps=100_000), on_path(bends, penalty)
            assert value(gram, target, penalty, a) == pytest.approx(
                value(gram, target, penalty, b), rel=1e-7, abs=1e-12
            )
        for n in range(1, len(target) + 1):
            assert len(set(lasso_count(gram, target, n).tolist())) == n


@pytest.mark.parametrize("seed", range(10))
def test_of_equal_columns_one_comes_in(seed):
    z, _ = design(50, 6, seed)
    z[:, 4] = z[:, 2]
    gram, target = sums(z, z.sum(1))
    assert min(entries(lasso_path(gram, target))[[2, 4]]) == 0
    for n in range(1, 6):
        assert len({2, 4} & set(lasso_count(gram, target, n).tolist())) <= 1


def test_where_fewer_say_everything_live_columns_come_before_dead_ones():
    z, _ = design(50, 4, 0)
    z[:, 0], z[:, 3] = 0.0, z[:, 2]
    gram, target = sums(z, z.sum(1))
    assert lasso_count(gram, target, 3).tolist() == [1, 2, 3]


def test_all_one_and_nothing():
    gram, target = sums(*design(30, 6, 1))
    assert lasso_count(gram, target, 6).tolist() == list(range(6))
    assert lasso_count(gram, target, 1).tolist() == [int(np.abs(target).argmax())]
    zero = np.zeros((4, 4))
    assert lasso_path(zero, np.zeros(4))[0][0] == 0
    assert entries(lasso_path(zero, np.zeros(4))).tolist() == [0] * 4
    assert lasso_count(zero, np.zeros(4), 2).tolist() == [0, 1]
    assert not lasso(zero, np.zeros(4), 0.1).any()
