"""min_keep, max_keep, round_to and frozen groups, of every allocator alike."""

import math

import pytest

import secateur
from allocating import SEARCHING, ready
from nets import graph
from secateur.allocation.choices import Bounded
from secateur.cost.cost import CostModel
from secateur.errors import BadBudget, BudgetUnreachable, UnknownName
from secateur.testing.allocator import random_scores

EVERY = pytest.mark.parametrize("name", SEARCHING)
BUDGETS = [{"macs": 0.75}, {"macs": 0.6, "params": 0.5}, {"params": 0.35}]


def found(name, g, **options):
    """The widths under several budgets, those that the options exclude left out."""
    for fields in BUDGETS:
        budget = secateur.Budget(**fields)
        try:
            plan = secateur.allocate(g, random_scores(g), budget, allocator=ready(name, g, **options))
        except BudgetUnreachable:
            continue
        cost = CostModel(g)
        reached = cost.at(plan.widths(g))
        assert all(getattr(reached, f) <= limit for f, limit in budget.limits(cost.dense()).items())
        yield plan.widths(g)


def bound(value, size):
    return math.ceil(value * size) if value < 1 else int(value)


@EVERY
def test_all_are_bounded(name):
    assert issubclass(secateur.allocators()[name], Bounded)


@EVERY
@pytest.mark.parametrize("least", [3, 0.25, {"*": 2, "features.1*": 4}])
def test_min_keep(name, least):
    g, seen = graph("digits-vgg"), 0
    for widths in found(name, g, min_keep=least):
        seen += 1
        for n, width in widths.items():
            asked = least if not isinstance(least, dict) else 4 if n.startswith("features.1") else 2
            assert width >= min(bound(asked, g[n].size), g[n].size)
    assert seen > 1


@EVERY
def test_max_keep(name):
    g, first = graph("digits-resnet"), graph("digits-resnet").groups[0].name
    held = list(found(name, g, max_keep={"*": 0.8, first: 3}))
    assert len(held) > 1
    for widths in held:
        assert widths.pop(first) <= 3
        assert all(w <= max(1, int(0.8 * g[n].size)) for n, w in widths.items())


@EVERY
@pytest.mark.parametrize("multiple", [4, "by pattern"])
def test_round_to(name, multiple):
    g = graph("digits-vgg")
    multiple = {"*": 2, g.groups[-1].name: 8} if multiple == "by pattern" else multiple
    held = list(found(name, g, round_to=multiple))
    assert len(held) > 1
    for widths in held:
        for n, width in widths.items():
            step = multiple if isinstance(multiple, int) else 8 if n == g.groups[-1].name else 2
            assert width % step == 0 or width == g[n].size


@EVERY
def test_all_at_once_and_frozen(name):
    whole = graph("digits-resnet")
    frozen = [whole.groups[i].name for i in (0, 2)]
    g = secateur.trace(whole.model, whole.example, frozen=frozen)
    assert 0 < len(g.groups) < len(whole.groups)
    held = list(found(name, g, min_keep=0.25, max_keep=0.9, round_to=2))
    assert held
    for widths in held:
        assert not widths.keys() & set(frozen)
        for n, width in widths.items():
            assert width % 2 == 0
            assert math.ceil(0.25 * g[n].size) <= width <= 0.9 * g[n].size


@EVERY
def test_a_budget_that_the_options_exclude_quotes_the_least_and_runs_no_forward(name):
    g, calls = graph("digits-vgg"), []
    handle = g.model.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        least = CostModel(g).at({x.name: math.ceil(0.5 * x.size) for x in g.groups}).macs
        allocator = ready(name, g, min_keep=0.5)
        with pytest.raises(BudgetUnreachable, match=f"macs {least - 1} asked, at least {least} "):
            secateur.allocate(g, random_scores(g), secateur.Budget(macs=float(least - 1)), allocator=allocator)
        reached = secateur.allocate(g, random_scores(g), secateur.Budget(macs=float(least)), allocator=allocator)
    finally:
        handle.remove()
    assert CostModel(g).at(reached.widths(g)).macs == least
    assert not calls


@EVERY
def test_what_makes_no_sense_is_refused(name):
    g = graph("digits-vgg")
    for options, error, words in (
        ({"min_keep": 0}, BadBudget, "min_keep=0"),
        ({"max_keep": -1.0}, BadBudget, "max_keep=-1.0"),
        ({"min_keep": 0.9, "max_keep": 0.5}, BadBudget, "would keep at least"),
        ({"round_to": 0}, BadBudget, "round_to=0"),
        ({"min_keep": {"no.*": 2}}, UnknownName, "no"),
    ):
        with pytest.raises(error, match=words):
            secateur.allocate(g, random_scores(g), secateur.Budget(macs=0.5), allocator=ready(name, g, **options))
