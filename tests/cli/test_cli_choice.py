"""What commands that prune make of their options before they work."""

import pytest
import typer

from secateur.allocation.ranked import Ranked
from secateur.allocation.uniform import Uniform
from secateur.cli import choice
from secateur.cost.budget import Budget
from secateur.criteria.l2 import L2
from secateur.criteria.taylor import Taylor
from secateur.errors import BadBudget
from secateur.methods.taylor_gates import TaylorGates
from secateur.training.recipe import Recipe

NO, ONE = Recipe(epochs=0), Recipe(epochs=1)


def test_parts_and_their_defaults():
    plain = choice.choose(None, None, None, None)
    assert (plain.criterion, plain.allocator) == (L2(), Ranked())
    other = choice.choose(None, "taylor", "uniform", 0.5)
    assert (other.criterion, other.allocator) == (Taylor(), Uniform(per_macs=0.5))
    assert choice.choose(None, None, "ranked:min_keep=2", 1.0).allocator == Ranked(per_macs=1.0, min_keep=2)


def test_a_method_is_made_with_its_options_and_takes_no_parts():
    assert choice.choose("taylor:per_macs=0.5", None, None, None) == TaylorGates(per_macs=0.5)
    for parts in (("l1", None, None), (None, "uniform", None), (None, None, 0.0)):
        with pytest.raises(typer.BadParameter, match="leave one out"):
            choice.choose("taylor", *parts)


def test_what_needs_data_and_why():
    l2, taylor = choice.choose(None, "l2", None, None), choice.choose(None, "taylor", None, None)
    assert choice.need(l2, NO, "none") is None
    assert "gradients" in choice.need(taylor, NO, "none")
    assert "folds" in choice.need(choice.choose("slimming", None, None, None), NO, "none")
    assert "--repair fold" in choice.need(l2, NO, "fold")
    assert "--finetune" in choice.need(l2, ONE, "none")


def test_who_needs_a_budget():
    assert choice.allowance("macs=0.5", choice.choose(None, None, None, None)).macs == 0.5
    assert choice.allowance(None, choice.choose("li2017", None, None, None)) is None
    assert choice.allowance(None, choice.choose(None, None, "uniform:keep=0.5", None)) is None
    assert choice.allowance(None, choice.choose(None, None, "given", None)) is None
    with pytest.raises(typer.BadParameter, match="how much"):
        choice.allowance(None, choice.choose(None, None, "uniform", None))
    with pytest.raises(BadBudget):
        choice.allowance("half", choice.choose("li2017", None, None, None))


def test_what_can_go_in_steps():
    parts, method = choice.choose(None, None, None, None), choice.choose("taylor", None, None, None)
    choice.check_steps(3, parts, Budget(macs=0.5))
    choice.check_steps(1, method, None)
    with pytest.raises(typer.BadParameter, match="'taylor' prunes at once"):
        choice.check_steps(2, method, Budget(macs=0.5))
    with pytest.raises(typer.BadParameter, match="steps lead to a budget"):
        choice.check_steps(2, parts, None)
