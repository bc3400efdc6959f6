"""Local: the same fraction of every group goes, rounded down."""

from fractions import Fraction

import pytest
import torch
from torch import nn

import secateur
from nets import HAND, OURS, graph
from secateur.allocation.local import Local
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget, BudgetUnreachable
from secateur.testing.allocator import random_scores


def chain(*sizes):
    layers = [m for a, b in zip((4, *sizes), (*sizes, 2), strict=True) for m in (nn.Linear(a, b), nn.ReLU())][:-1]
    return secateur.trace(nn.Sequential(*layers), torch.zeros(1, 4))


def test_a_budget_by_hand():
    """MACs 4a + ab + 2b of (5, 3): a fifth takes 1 of 5 and 0 of 3, a third 1 and 1, two fifths 2 and 1, ..."""
    g = chain(5, 3)
    given = {"0": torch.tensor([5.0, 1, 4, 9, 2]).double(), "2": torch.tensor([3.0, 0.5, 8]).double()}
    for limit, widths in (
        (40, (4, 3)),
        (34, (4, 3)),
        (33, (4, 2)),
        (28, (4, 2)),
        (27, (3, 2)),
        (22, (3, 2)),
        (7, (1, 1)),
    ):
        plan = secateur.allocate(g, given, secateur.Budget(macs=limit), allocator="local")
        assert tuple(plan.widths(g).values()) == widths, limit
    assert plan.kept["0"].tolist() == [3]
    assert plan.kept["2"].tolist() == [2]


@pytest.mark.parametrize("name", [*HAND, *OURS])
def test_the_smallest_fraction_that_fits(name):
    """All fractions there are, as fractions, tried one by one."""
    g = graph(name)
    cost = CostModel(g)
    fractions = sorted({Fraction(k, x.size) for x in g.groups for k in range(x.size)})
    for field, share in (("macs", 0.6), ("params", 0.5)):
        budget = secateur.Budget(**{field: share})
        limit = budget.limits(cost.dense())[field]
        tried = ({x.name: max(x.least, 1, x.size - int(f * x.size)) for x in g.groups} for f in fractions)
        expected = next((w for w in tried if getattr(cost.at(w), field) <= limit), None)
        if expected is None:
            with pytest.raises(BudgetUnreachable):
                secateur.allocate(g, random_scores(g), budget, allocator="local")
        else:
            assert secateur.allocate(g, random_scores(g), budget, allocator="local").widths(g) == expected


@pytest.mark.parametrize("size", [49, 98, 103, 107, 161, 187, 196, 197])
def test_fractions_that_floats_round_down(size):
    """1 / 49 * 49 is 0.9999999999999999, and one unit goes all the same."""
    g = chain(size)
    cost = CostModel(g)
    for left in (size - 1, size // 2, 3):
        budget = secateur.Budget(macs=float(cost.at({"0": left}).macs))
        assert secateur.allocate(g, random_scores(g), budget, allocator="local").widths(g) == {"0": left}


def test_small_groups_stay_whole_for_longer_than_under_uniform():
    g = chain(100, 3)
    widths = {
        name: secateur.allocate(g, random_scores(g), secateur.Budget(macs=0.8), allocator=name).widths(g)
        for name in ("local", "uniform")
    }
    assert widths["local"]["2"] == 3
    assert widths["uniform"]["2"] == 2


def test_without_a_budget_it_says_what_to_give():
    with pytest.raises(BadBudget, match="needs a budget"):
        secateur.allocate(chain(5), random_scores(chain(5)), allocator="local")


def test_options():
    g = graph("digits-vgg")
    plan = secateur.allocate(
        g, random_scores(g), secateur.Budget(macs=0.4), allocator=Local(round_to=4, min_keep=0.25, max_keep=0.9)
    )
    for name, width in plan.widths(g).items():
        assert width % 4 == 0
        assert 0.25 * g[name].size <= width <= 0.9 * g[name].size
