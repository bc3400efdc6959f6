"""Correlations against scipy's, on the units written out; intervals against units drawn again and again."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from secateur.errors import BadOption, PlanError, UnknownName
from secateur.experiments import correlation
from secateur.experiments.correlation import LEAST, STATISTICS, Column, Estimate, correlate, correlations
from secateur.experiments.oracle import Oracle

SCIPY = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
HAND = {
    "rising": ([1, 2, 3, 4, 5], [2, 4, 5, 8, 100]),
    "falling": ([1, 2, 3, 4], [9, 7, 7, 0]),
    "ties in one": ([1, 1, 2, 3, 3, 3], [3, 1, 2, 9, 5, 4]),
    "ties in both": ([0, 0, 1, 1, 2, 2], [5, 5, 5, 7, 7, 7]),
    "large and small": ([1e-12, 2e-12, 5e-12, 3e-12], [1e9, 4e9, 2e9, 3e9]),
    "far from zero": ([1e6, 1e6 + 1, 1e6 + 3, 1e6 + 2], [0.1, 0.3, 0.2, 0.2]),
}


def made(x, y, groups=None):
    """An oracle whose loss changes are `y`, and scores `x` for its units."""
    y = torch.tensor(y, dtype=torch.float64)
    groups = groups or ["a"] * len(y)
    units = [(name, groups[:i].count(name)) for i, name in enumerate(groups)]
    oracle = Oracle(tuple(units), y[:, None], torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    scores = {name: torch.tensor(_of(x, groups, name), dtype=torch.float64) for name in groups}
    return oracle, scores


def _of(values, groups, name):
    return [v for v, n in zip(values, groups, strict=True) if n == name]


def random_data(n, seed=0, distinct=None):
    """Correlated, with ties if `distinct` is given."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=n)
    y = x + generator.normal(size=n)
    return (x, y) if distinct is None else (np.round(x * distinct), np.round(y * distinct))


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("case", HAND)
def test_hand_data_give_what_scipy_gives(case, statistic):
    x, y = HAND[case]
    oracle, scores = made(x, y)
    (found,) = correlations(oracle, {"one": scores}, against="change", resamples=10)
    assert found.overall[statistic].value == pytest.approx(SCIPY[statistic](x, y)[0], abs=1e-9)
    assert (found.name, found.units) == ("one", len(x))


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("distinct", [None, 2])
def test_a_resample_is_the_statistic_of_the_units_written_out(statistic, distinct):
    x, y = random_data(40, distinct=distinct)
    counts = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), size=30).astype(float)
    found = correlate(statistic, Column(x), Column(y), counts)
    for row, value in zip(counts.astype(int), found, strict=True):
        assert value == pytest.approx(SCIPY[statistic](np.repeat(x, row), np.repeat(y, row))[0], abs=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_resample_of_equal_values_is_undefined(statistic):
    x, y = Column(np.array([1.0, 1.0, 2.0])), Column(np.array([1.0, 2.0, 3.0]))
    found = correlate(statistic, x, y, np.array([[1.0, 2, 0], [0, 0, 3], [0, 1, 2]]))
    assert np.isnan(found).tolist() == [True, True, False]
    assert found[2] == 1


def test_large_tables_are_worked_through_in_pieces(monkeypatch):
    x, y = random_data(60, distinct=3)
    oracle, scores = made(x.tolist(), y.tolist())
    whole = correlations(oracle, {"one": scores}, resamples=50)
    counts = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), size=9).astype(float)
    expected = correlate("kendall", Column(x), Column(y), counts)
    monkeypatch.setattr(correlation, "AT_ONCE", 200)
    assert correlations(oracle, {"one": scores}, resamples=50) == whole
    assert np.array_equal(correlate("kendall", Column(x), Column(y), counts), expected)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_interval_is_that_of_units_drawn_again(statistic):
    """Percentiles over scipy's statistics of drawn units; two random draws of 2,000 differ by chance alone."""
    x, y = random_data(80)
    (found,) = correlations(*_named(made(x.tolist(), y.tolist())), against="change", resamples=2000)
    generator = np.random.default_rng(5)
    drawn = [SCIPY[statistic](x[i], y[i])[0] for i in generator.integers(80, size=(2000, 80))]
    ours = found.overall[statistic]
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.025)
    assert ours.low < ours.value < ours.high


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Of a bivariate normal with r = 0.5: 100 samples of 60, and 95 % of the intervals, within 3 standard errors."""
    hits = 0
    generator = np.random.default_rng(0)
    for seed in range(100):
        x = generator.normal(size=60)
        y = 0.5 * x + math.sqrt(0.75) * generator.normal(size=60)
        oracle, scores = made(x.tolist(), y.tolist())
        (found,) = correlations(oracle, {"one": scores}, against="change", resamples=200, seed=seed)
        interval = found.overall["pearson"]
        hits += interval.low <= 0.5 <= interval.high
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 100) - 0.02 <= hits / 100 <= 1  # percentile intervals are a little short


def test_squared_absolute_and_signed():
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0], [-3.0, 1.0, 2.0, -4.0, 5.0]
    oracle, scores = made(x, y)

    def value(against, statistic):
        return correlations(oracle, {"one": scores}, against=against, resamples=5)[0].overall[statistic].value

    squares = np.square(y)
    assert value("squared", "pearson") == pytest.approx(stats.pearsonr(x, squares)[0])
    assert value("absolute", "pearson") == pytest.approx(stats.pearsonr(x, np.abs(y))[0])
    assert value("change", "pearson") == pytest.approx(stats.pearsonr(x, y)[0])
    assert value("squared", "spearman") == value("absolute", "spearman") != value("change", "spearman")


def _named(pair):
    return pair[0], {"one": pair[1]}


def test_within_groups_is_the_mean_over_groups():
    groups = ["a"] * 8 + ["b"] * 6 + ["c"] * (LEAST - 1) + ["d"] * 7
    x, y = random_data(len(groups))
    x[18:] = 3.0  # group d: constant scores
    oracle, scores = made(x.tolist(), y.tolist(), groups)
    (found,) = correlations(oracle, {"one": scores}, against="change", resamples=500)
    assert found.groups == 2
    for statistic, by_scipy in SCIPY.items():
        expected = (by_scipy(x[:8], y[:8])[0] + by_scipy(x[8:14], y[8:14])[0]) / 2
        estimate = found.within[statistic]
        assert estimate.value == pytest.approx(expected, abs=1e-12)
        assert -1 <= estimate.low < estimate.high <= 1
    groups = ["a"] * 8
    (alone,) = correlations(*_named(made(x[:8].tolist(), y[:8].tolist(), groups)), against="change", resamples=200)
    assert alone.within == alone.overall


def test_levels_of_groups_do_not_count_within():
    """Groups whose scores and changes rise together, and inside which they fall: the sign turns."""
    x = [v + 100 * g for g in range(3) for v in range(6)]
    y = [5 - v + 100 * g for g in range(3) for v in range(6)]
    oracle, scores = made(x, y, [n for n in "abc" for _ in range(6)])
    (found,) = correlations(oracle, {"one": scores}, against="change", resamples=20)
    assert found.within["spearman"] == Estimate(pytest.approx(-1), pytest.approx(-1), pytest.approx(-1))
    assert found.overall["pearson"].value > 0.99


@pytest.mark.parametrize(
    ("x", "y", "why"),
    [
        ([2.0] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "all scores are the same"),
        ([0.1 + 0.2, 0.3] * 3, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "all scores are the same"),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0] * 6, "all loss changes are the same"),
        ([1.0, 2.0], [1.0, 2.0], "2 units are too few"),
    ],
)
def test_what_is_undefined_says_so_and_is_no_number(x, y, why):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = correlations(*_named(made(x, y)), resamples=50)
    for statistic in STATISTICS:
        assert found.overall[statistic] == Estimate(None, why=why)
        assert found.within[statistic].value is None
        assert "no group has" in found.within[statistic].why
        assert str(found.overall[statistic]) == "undefined"


def test_an_interval_that_most_resamples_lack_is_not_given():
    """Of three units of which two are alike, a third of the resamples hold equal scores."""
    (found,) = correlations(*_named(made([1.0, 1.0, 2.0], [1.0, 2.0, 3.0])), resamples=400)
    estimate = found.overall["spearman"]
    assert estimate.value == pytest.approx(stats.spearmanr([1, 1, 2], [1, 4, 9])[0])
    assert (estimate.low, estimate.high) == (None, None)
    assert "of 400 resamples have a correlation" in estimate.why
    assert str(estimate) == "0.87"


def test_the_seed_decides_and_criteria_share_resamples():
    x, y = random_data(30)
    oracle, scores = made(x.tolist(), y.tolist())
    one, two = correlations(oracle, {"one": scores, "two": {k: 2 * v for k, v in scores.items()}}, resamples=50)
    assert one.overall["kendall"] == two.overall["kendall"]
    assert correlations(oracle, {"one": scores}, resamples=50) == [one]
    assert correlations(oracle, {"one": scores}, resamples=50, seed=1) != [one]
    assert str(one.overall["kendall"]).count(".") == 3


def test_what_is_refused():
    oracle, scores = made([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    with pytest.raises(UnknownName, match="squared"):
        correlations(oracle, {"one": scores}, against="square")
    for options in ({"resamples": 0}, {"confidence": 95}):
        with pytest.raises(BadOption, match="give at least 1, and a fraction"):
            correlations(oracle, {"one": scores}, **options)
    with pytest.raises(PlanError, match="no scores of group 'a'"):
        correlations(oracle, {"one": {}})
