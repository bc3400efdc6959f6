"""Budgets: what they mean, what they refuse."""

import math

import numpy as np
import pytest

from secateur.cost.budget import Budget
from secateur.cost.cost import Cost
from secateur.errors import BadBudget, BudgetError, NothingToDo

DENSE = Cost(macs=1000, params=200, bytes=900)


@pytest.mark.parametrize("value", [0, -1, -0.5, 0.0, math.nan, math.inf, -math.inf, True, "0.5", None.__class__])
@pytest.mark.parametrize("field", ["macs", "params", "bytes"])
def test_values_that_make_no_sense(field, value):
    with pytest.raises(BadBudget, match=f"{field}=.* is no budget"):
        Budget(**{field: value})


def test_no_field():
    for fields in ({}, {"macs": None}):
        with pytest.raises(BadBudget, match="names nothing"):
            Budget(**fields)


def test_fractions_and_amounts():
    assert Budget(macs=0.5, params=120, bytes=0.25).limits(DENSE) == {"macs": 500.0, "params": 120.0, "bytes": 225.0}
    assert Budget(macs=0.5, params=None).fields == {"macs": 0.5}


@pytest.mark.parametrize("budget", [Budget(macs=1000), Budget(params=1e9), Budget(macs=5000, bytes=900)])
def test_nothing_to_do(budget):
    with pytest.raises(NothingToDo, match=r"dense model .* meets the budget"):
        budget.limits(DENSE)


def test_one_field_that_is_missed_is_enough():
    assert Budget(macs=5000, params=0.5).limits(DENSE) == {"macs": 5000.0, "params": 100.0}


def test_one_is_the_whole():
    with pytest.raises(NothingToDo):
        Budget(macs=1).limits(DENSE)


@pytest.mark.parametrize("value", [np.int64(500), np.float32(0.5)])
def test_numbers_of_numpy(value):
    assert Budget(macs=value).limits(DENSE) == {"macs": 500.0}


def test_text_and_back():
    assert Budget.parse("macs=0.5, params=1e6") == Budget(macs=0.5, params=1e6)
    assert str(Budget(macs=0.5, bytes=2e6)) == "macs=0.5,bytes=2e+06"
    assert Budget.parse(str(Budget(params=0.25))) == Budget(params=0.25)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("", "''"),
        ("macs", "'macs'"),
        ("flops=0.5", "'flops=0.5'"),
        ("macs=half", "'half'"),
        ("macs=", "''"),
        ("macs=0.5,", "'macs=0.5,'"),
        ("macs=0", "macs=0"),
        ("macs=nan", "macs=nan"),
    ],
)
def test_text_that_is_refused_is_quoted(text, quoted):
    with pytest.raises(BudgetError, match=quoted):
        Budget.parse(text)
