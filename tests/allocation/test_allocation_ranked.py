"""Ranked: one ranking of all units."""

import pytest
import torch
from torch import nn

import secateur
from nets import graph
from secateur.allocation.ranked import Ranked
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget, BudgetUnreachable, SecateurError
from secateur.testing.allocator import random_scores


@pytest.fixture(scope="module")
def chain():
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2))
    return secateur.trace(net, torch.zeros(1, 4))


def scores(a, b):
    return {"0": torch.tensor(a, dtype=torch.float64), "2": torch.tensor(b, dtype=torch.float64)}


def test_the_ranking_by_hand(chain):
    given = scores([5, 1, 4, 9, 2], [3, 0.5, 8])
    group, unit = Ranked().order(chain, given, CostModel(chain))
    # 0.5, 1, 2, 3, 4, 5; the best of each group (9 and 8) may not go.
    assert list(zip(group.tolist(), unit.tolist(), strict=True)) == [(1, 1), (0, 1), (0, 4), (1, 0), (0, 2), (0, 0)]


def test_ties_go_to_the_earlier_group_and_unit(chain):
    group, unit = Ranked().order(chain, scores([1.0] * 5, [1.0] * 3), CostModel(chain))
    assert list(zip(group.tolist(), unit.tolist(), strict=True)) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]


def test_a_budget_by_hand(chain):
    """MACs 4a + ab + 2b: 41 whole; without unit 1 of the second group 34; without one of the first as well 28."""
    given = scores([5, 1, 4, 9, 2], [3, 0.5, 8])
    assert CostModel(chain).dense().macs == 41
    for limit, widths in ((40, (5, 2)), (34, (5, 2)), (33, (4, 2)), (28, (4, 2)), (27, (3, 2)), (7, (1, 1))):
        plan = secateur.allocate(chain, given, secateur.Budget(macs=limit))
        assert tuple(plan.widths(chain).values()) == widths, limit


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_scores_are_divided_by_a_power_of_what_a_unit_saves(chain, power):
    """A unit of the first group saves 4 + 3 MACs, of the second 5 + 2: nothing changes there, and elsewhere it does."""
    given = scores([5, 1, 4, 9, 2], [3, 0.5, 8])
    plain, weighted = (Ranked(per_macs=p).order(chain, given, CostModel(chain)) for p in (0.0, power))
    assert [x.tolist() for x in plain] == [x.tolist() for x in weighted]
    g = graph("digits-vgg")
    given, saving = random_scores(g), CostModel(g).per_unit("macs")
    group, unit = Ranked(per_macs=power).order(g, given, CostModel(g))
    names = [g.groups[i].name for i in group]
    keys = [given[n][u].item() / saving[n] ** power for n, u in zip(names, unit, strict=True)]
    assert keys == sorted(keys)
    assert len(set(saving.values())) > 1


@pytest.mark.parametrize(("min_keep", "least"), [(1, (1, 1)), (2, (2, 2)), (3, (3, 3)), (4, (4, 3)), (0.4, (2, 2))])
def test_min_keep(chain, min_keep, least):
    allocator = Ranked(min_keep=min_keep)
    given = scores([5, 1, 4, 9, 2], [3, 0.5, 8])
    macs = CostModel(chain).at(dict(zip(("0", "2"), least, strict=True))).macs
    plan = secateur.allocate(chain, given, secateur.Budget(macs=float(macs)), allocator=allocator)
    assert tuple(plan.widths(chain).values()) == least
    with pytest.raises(BudgetUnreachable, match=f"at least {macs} "):
        secateur.allocate(chain, given, secateur.Budget(macs=macs - 1.0), allocator=allocator)


def test_min_keep_as_a_fraction_is_a_least(chain):
    given = scores([5, 1, 4, 9, 2], [3, 0.5, 8])
    group, _ = Ranked(min_keep=0.5).order(chain, given, CostModel(chain))
    assert (group == 0).sum() <= 2


@pytest.mark.parametrize("min_keep", [0, -1, float("nan")])
def test_min_keep_that_makes_no_sense(min_keep):
    with pytest.raises(BadBudget, match="at least one unit"):
        Ranked(min_keep=min_keep)


def test_without_a_budget(chain):
    with pytest.raises(BadBudget, match="needs a budget"):
        secateur.allocate(chain, random_scores(chain))


def test_no_groups():
    g = secateur.trace(nn.Linear(3, 2), torch.zeros(1, 3))
    with pytest.raises(BudgetUnreachable):
        secateur.allocate(g, {}, secateur.Budget(macs=0.5))


@pytest.mark.parametrize(
    "bad", [{}, scores([1, 2], [1, 2, 3]), scores([1, 2, float("nan"), 4, 5], [1, 2, 3])], ids=["none", "short", "nan"]
)
@pytest.mark.parametrize("allocator", ["ranked", "uniform"])
def test_scores_that_do_not_fit_are_refused(chain, bad, allocator):
    with pytest.raises(SecateurError):
        secateur.allocate(chain, bad, secateur.Budget(macs=0.5), allocator=allocator)
