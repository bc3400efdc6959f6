"""Cost: numbers in words, and closed forms that never look at the model."""

import pytest

from nets import graph
from secateur.cost.cost import Cost, CostModel, short


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 "), (999, "999 "), (1000, "1 k"), (41_284_000, "41.28 M"), (3.66e9, "3.66 G")]
)
def test_short(n, text):
    assert short(n) == text


def test_printing():
    cost = Cost(macs=40_551_040, params=269_722, bytes=1_085_000, activations=196_608)
    assert str(cost) == "40.55 M MACs, 269.7 k params, 1.085 MB"
    assert cost.as_dict() == {
        "macs": 40_551_040,
        "params": 269_722,
        "bytes": 1_085_000,
        "activations": 196_608,
    }


def test_widths_not_named_are_whole():
    cost = CostModel(graph("plain"))
    assert cost.at({}) == cost.dense() == cost.at({"one.0": 8, "two.0": 6})
    assert cost.at({"one.0": 4}) == cost.at({"one.0": 4, "two.0": 6})


def test_cost_falls_with_every_width():
    g = graph("digits-resnet")
    cost = CostModel(g)
    for group in g.groups:
        series = [cost.at({group.name: w}) for w in range(group.size, 0, -1)]
        for field in ("macs", "params", "bytes"):
            values = [getattr(c, field) for c in series]
            assert values == sorted(set(values), reverse=True), (group.name, field)
        most = [c.activations for c in series]  # of one op, which need not see this group
        assert most == sorted(most, reverse=True)


def test_cost_is_a_polynomial_of_degree_one_in_a_width_that_does_not_meet_itself():
    cost = CostModel(graph("plain"))
    a, b, c = (cost.at({"one.0": w}).macs for w in (2, 3, 4))
    assert c - b == b - a


def test_a_width_that_meets_itself_counts_twice():
    """A layer that reads what it writes: quadratic."""
    cost = CostModel(graph("twice"))
    a, b, c, d = (cost.at({"stem": w}).params for w in (2, 3, 4, 5))
    assert (d - c) - (c - b) == (c - b) - (b - a) == 2 * 9


def test_kinds():
    g = graph("plain")
    assert CostModel(g).macs_by_kind({}) == {"conv": 2 * 64 * 9 * (8 + 48), "linear": 2 * 60}


@pytest.mark.parametrize("field", ["macs", "params", "bytes"])
def test_saving_of_a_unit(field):
    g = graph("digits-vgg")
    cost = CostModel(g)
    for name, saved in cost.per_unit(field).items():
        less = cost.at({name: g[name].size - 1})
        assert saved == getattr(cost.dense(), field) - getattr(less, field) > 0
