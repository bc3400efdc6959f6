"""Ints that remember where they came from."""

import copy

import numpy as np
import pytest
from torch import nn

from secateur.graph.provenance import (
    Apply,
    Attribute,
    Size,
    Traced,
    attributes_in,
    evaluate,
    has_size,
    source_of,
    traced_attributes,
)

A, B = Attribute("block", "width"), Attribute("", "heads")


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: a + b,
        lambda a, b: a - 3,
        lambda a, b: 100 - a,
        lambda a, b: 2 * a + b * 3,
        lambda a, b: a // b,
        lambda a, b: 1000 // a,
        lambda a, b: a % b,
        lambda a, b: (a - b) // 2 + (a - b) % 2,
    ],
)
def test_expressions_can_be_evaluated_anew(f):
    result = f(Traced(24, A), Traced(5, B))
    assert isinstance(result, Traced)
    assert result == f(24, 5)
    for a, b in ((10, 3), (7, 7)):
        assert evaluate(source_of(result), {A: a, B: b}, lambda axis: 0) == f(a, b)


def test_what_is_not_whole_arithmetic_forgets():
    a = Traced(24, A)
    for result in (a / 2, a + 0.5, a * True, float(a), round(a / 5)):
        assert not isinstance(result, Traced)
    assert source_of(24) == 24


def test_negation_keeps_the_value():
    assert -Traced(4, A) == -4


def test_copies():
    a = Traced(24, A)
    assert copy.deepcopy(a) is a
    assert type(copy.copy(a)) is int


def test_sizes_and_attributes_of_an_expression():
    axis = np.arange(1, 7)
    size = Traced(6, Size(axis))
    source = source_of(Traced(24, A) * 2 + size)
    assert isinstance(source, Apply)
    assert attributes_in(source) == {A}
    assert has_size(source)
    assert not has_size(A)
    assert evaluate(source, {A: 10}, lambda x: 4 if x is axis else 0) == 24


def test_attributes_are_traced_and_put_back():
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Linear(3, 4))
    net.flag, net.count, net._hidden, net[0].name = True, 100_000, 7, "conv"
    held = net.__dict__["count"]
    before = {path: dict(vars(m)) for path, m in net.named_modules()}
    with traced_attributes(net) as values:
        assert values[Attribute("0", "groups")] == 1
        assert values[Attribute("1", "in_features")] == 3
        assert isinstance(net.count, Traced)
        assert source_of(net[0].out_channels) == Attribute("0", "out_channels")
        assert type(net.flag) is bool
        assert type(net._hidden) is int
        net[1].in_features = 5  # a forward may set its own
    assert net[1].in_features == 5
    net[1].in_features = 3
    assert {path: dict(vars(m)) for path, m in net.named_modules()} == before
    assert net.__dict__["count"] is held


def test_attributes_are_put_back_after_an_error():
    net = nn.Linear(3, 4)
    with pytest.raises(ZeroDivisionError), traced_attributes(net):
        1 / 0  # noqa: B018
    assert type(net.in_features) is int
