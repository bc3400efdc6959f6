"""Means and spreads in closed form; one value has no spread, and no spread is never 0."""

import math

import pytest

from secateur.report.spread import Spread, exceeds, percent, plus_minus, span


def test_mean_and_sample_deviation_are_the_closed_form():
    spread = Spread.of([0.1, 0.2, 0.6])
    assert spread.mean == pytest.approx(0.3)
    assert spread.sd == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert (spread.n, spread.low, spread.high, spread.values) == (3, 0.1, 0.6, (0.1, 0.2, 0.6))


def test_one_value_has_a_mean_and_no_spread():
    spread = Spread.of([0.5])
    assert (spread.mean, spread.sd) == (0.5, None)
    assert plus_minus(spread) == "50.00 ± –"
    assert span(spread) == ""


def test_no_value_has_nothing():
    assert Spread.of([]) == Spread((), 0, None, None, None, None)
    assert plus_minus(Spread.of([])) == "–"


def test_equal_values_have_a_spread_of_zero():
    assert plus_minus(Spread.of([0.5, 0.5])) == "50.00 ± 0.00"


def test_numbers_are_percent():
    assert percent(0.97691) == "97.69"
    assert percent(0.494, 1) == "49.4"
    assert percent(None) == "–"
    assert plus_minus(Spread.of([0.9, 0.94])) == "92.00 ± 2.83"
    assert span(Spread.of([0.94, 0.9])) == "90.00–94.00"


@pytest.mark.parametrize(("gap", "verdict"), [(0.19, False), (0.21, True), (-0.19, False), (-0.21, True)])
def test_a_difference_exceeds_the_spread_when_the_intervals_are_apart(gap, verdict):
    sd = 0.1
    values = [-sd / math.sqrt(2), sd / math.sqrt(2)]  # two values whose sample deviation is sd
    assert exceeds(Spread.of(values), Spread.of([v + gap for v in values])) is verdict


def test_without_two_values_nothing_is_said():
    assert exceeds(Spread.of([0.1]), Spread.of([0.8, 0.9])) is None
    assert exceeds(Spread.of([0.1, 0.2]), Spread.of([])) is None
