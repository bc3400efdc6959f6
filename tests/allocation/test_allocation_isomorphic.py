"""Isomorphic: the same fraction of every scope goes, the lowest scores of it first."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import graph
from secateur.allocation.isomorphic import Isomorphic
from secateur.allocation.local import Local
from secateur.allocation.scopes import scopes
from secateur.cost.cost import CostModel
from secateur.testing.allocator import random_scores


def by_formula(g, scores, fraction):
    """Of each scope the floor(fraction * units) lowest that may go."""
    number, gone = scopes(g), {x.name: 0 for x in g.groups}
    for scope in set(number.tolist()):
        mine = [x for x, n in zip(g.groups, number, strict=True) if n == scope]
        units = sum(x.size for x in mine)
        # The highest of each group may not go.
        free = [(s, x.name) for x in mine for s in sorted(scores[x.name].tolist())[: x.size - x.least]]
        for _, name in sorted(free)[: math.floor(fraction * units)]:
            gone[name] += 1
    return {x.name: x.size - gone[x.name] for x in g.groups}


@pytest.mark.parametrize("name", ["plain", "depthwise", "squeeze", "digits-resnet", "digits-vgg", "resnet20"])
def test_every_scope_loses_the_same_fraction(name):
    """Within one unit a scope of the formula at the smallest fraction that meets the budget, tried one by one."""
    g, scores = graph(name), random_scores(graph(name), 4)
    cost, number = CostModel(g), scopes(g)
    units = np.bincount(number, weights=[x.size for x in g.groups]).astype(int).tolist()
    fractions = sorted({Fraction(k, n) for n in units for k in range(n + 1)})
    for share in (0.8, 0.5, 0.3):
        budget = secateur.Budget(macs=share)
        limit = budget.limits(cost.dense())["macs"]
        last = next(i for i, f in enumerate(fractions) if cost.at(by_formula(g, scores, f)).macs <= limit)
        more, less = (by_formula(g, scores, fractions[i]) for i in (last, last - 1))
        found = secateur.allocate(g, scores, budget, allocator="isomorphic").widths(g)
        assert all(more[n] <= width <= less[n] for n, width in found.items())
        assert cost.at(found).macs <= limit < cost.at(less).macs


def test_one_group_a_scope_is_local():
    """Then what goes of each is a fraction of it; with the same steps where no two go at one fraction."""
    layers = (nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 5, bias=False), nn.ReLU(), nn.Linear(5, 2))
    g = secateur.trace(nn.Sequential(*layers), torch.zeros(1, 4))
    assert scopes(g).tolist() == [0, 1]
    for limit in range(8, 70):
        plans = [
            secateur.allocate(g, random_scores(g), secateur.Budget(macs=limit), allocator=a)
            for a in (Isomorphic(), Local())
        ]
        assert plans[0] == plans[1]


def test_all_groups_in_one_scope_is_ranked():
    layers = [m for _ in range(4) for m in (nn.Linear(6, 6), nn.ReLU())]
    g = secateur.trace(nn.Sequential(*layers, nn.Linear(6, 6)), torch.zeros(1, 6))
    assert set(scopes(g).tolist()) == {0}
    for share in (0.9, 0.6, 0.3):
        one, other = (
            secateur.allocate(g, random_scores(g), secateur.Budget(macs=share), allocator=a)
            for a in ("isomorphic", "ranked")
        )
        assert one == other


def test_scores_of_another_scope_do_not_matter_but_for_ties():
    g = graph("digits-resnet")
    scores, number = random_scores(g), scopes(g)
    assert number.max() > 1
    scaled = {x.name: scores[x.name] * 10.0 ** int(n) for x, n in zip(g.groups, number, strict=True)}
    widths = [
        secateur.allocate(g, s, secateur.Budget(macs=0.4), allocator="isomorphic").widths(g) for s in (scores, scaled)
    ]
    assert sum(abs(widths[0][n] - widths[1][n]) for n in widths[0]) <= number.max()


def test_groups_with_a_width_of_their_own_take_no_part():
    g, first = graph("digits-resnet"), graph("digits-resnet").groups[1].name
    for share in (0.8, 0.4):
        plan = secateur.allocate(
            g, random_scores(g), secateur.Budget(macs=share), allocator=Isomorphic(keep={first: 0.75})
        )
        assert plan.widths(g)[first] == int(0.75 * g[first].size)


def test_a_number_of_units_in_place_of_a_budget():
    g = graph("digits-vgg")
    plan = secateur.allocate(g, random_scores(g), allocator=Isomorphic(drop=7))
    assert sum(x.size for x in g.groups) - sum(plan.widths(g).values()) == 7
