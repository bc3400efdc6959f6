"""Counts are exact, ties go by position, and patterns that make no sense are refused by the value."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import BadOption
from secateur.sparsity.pattern import Pattern, exact, lowest, rounded, shares


def test_the_trap_of_floating_point():
    assert int(10 * (1 - 0.9)) == 0  # what this is about
    assert Pattern(sparsity=0.9).zeros(10) == 9
    assert Pattern(sparsity=1 - 0.9).zeros(10) == 1
    assert Pattern(sparsity=0.1 + 0.2).zeros(10) == 3
    assert Pattern(sparsity=1 - 0.8**3).zeros(1000) == 488
    assert Pattern(sparsity=1 / 3).zeros(3) == 1
    assert all(Pattern(sparsity=k / 100).zeros(100) == k for k in range(1, 100))
    assert all(Pattern(sparsity=k / 7).zeros(7 * 10**9) == k * 10**9 for k in range(1, 7))


@pytest.mark.parametrize("value", [0.9, "0.9", "9/10", Fraction(9, 10)])
def test_a_fraction_is_what_was_written(value):
    assert exact(value, "sparsity") == Fraction(9, 10)


@pytest.mark.parametrize(
    "value", [0, 1, -0.5, 1.5, 50, float("nan"), float("inf"), True, "half", "1/0", None, [0.5], 1e-12]
)
def test_a_sparsity_that_makes_no_sense(value):
    with pytest.raises(BadOption, match=r"sparsity=.*(above 0 and below 1|give either)"):
        Pattern(sparsity=value)


def test_percent_are_understood_and_refused():
    with pytest.raises(BadOption, match=r"50 % are 0\.5"):
        Pattern(sparsity=50)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "either sparsity"),
        ({"sparsity": 0.5, "keep": 2, "of": 4}, "either sparsity"),
        ({"keep": 2}, "keep=2, of=None"),
        ({"of": 4}, "keep=None, of=4"),
        ({"keep": 0, "of": 4}, "0 < keep < of"),
        ({"keep": 4, "of": 4}, "0 < keep < of"),
        ({"keep": 2.0, "of": 4}, "whole numbers"),
        ({"keep": True, "of": 4}, "whole numbers"),
        ({"keep": 2, "of": 4, "scope": "row"}, "scope='row'"),
        ({"sparsity": 0.5, "scope": "column"}, "scope='column'.*'global'"),
        ({"sparsity": 0.5, "rounding": "even"}, "rounding='even'"),
    ],
)
def test_a_pattern_that_makes_no_sense(options, reason):
    with pytest.raises(BadOption, match=reason):
        Pattern(**options)


def test_rounding():
    half = Fraction(5, 2)
    assert [rounded(half, r) for r in ("down", "nearest", "up")] == [2, 3, 3]
    assert [rounded(Fraction(9, 4), r) for r in ("down", "nearest", "up")] == [2, 2, 3]
    assert [Pattern(sparsity=0.25, rounding=r).zeros(10) for r in ("down", "nearest", "up")] == [2, 3, 3]


def test_it_says_what_it_is():
    assert str(Pattern(keep=2, of=4)) == "2 of every 4 inputs kept"
    assert str(Pattern(sparsity=0.5, scope="row")) == "0.5 of each row zero"
    assert Pattern(keep=1, of=4).fraction == Fraction(3, 4)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.integers(0, 13))
@settings(max_examples=200, deadline=None)
def test_the_lowest_by_a_stable_sort(values, count):
    scores = torch.tensor(values, dtype=torch.float32)
    expected = np.zeros(len(values), dtype=bool)
    expected[np.argsort(values, kind="stable")[:count]] = True
    assert lowest(scores, count).tolist() == expected.tolist()
    assert lowest(scores, torch.tensor([count])).tolist() == expected.tolist()


def test_the_lowest_of_rows():
    scores = torch.tensor([[1.0, 1, 1, 0], [3, 2, 1, 0], [0, 0, 0, 0]])
    assert lowest(scores, 2).int().tolist() == [[1, 0, 0, 1], [0, 0, 1, 1], [1, 1, 0, 0]]
    counts = torch.tensor([[1], [0], [4]])
    assert lowest(scores, counts).int().tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 72))
@settings(max_examples=200, deadline=None)
def test_shares_add_up_and_fit(sizes, total):
    total = min(total, sum(sizes))
    found = shares(torch.tensor(total), torch.tensor(sizes)).tolist()
    assert sum(found) == total
    assert all(0 <= f <= s for f, s in zip(found, sizes, strict=True))
    assert all(abs(f - total * s / max(sum(sizes), 1)) < 1 for f, s in zip(found, sizes, strict=True))
