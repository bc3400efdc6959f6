"""What `secateur prune` makes of its options before it works."""

import pytest
import typer

from secateur.allocation.ranked import Ranked
from secateur.allocation.uniform import Uniform
from secateur.cli import job
from secateur.criteria.l2 import L2
from secateur.criteria.taylor import Taylor
from secateur.errors import BadBudget, NeedsData
from secateur.methods.taylor_gates import TaylorGates
from secateur.training.recipe import Recipe

NO, ONE = Recipe(epochs=0), Recipe(epochs=1)


def test_parts_and_their_defaults():
    plain = job.choose(None, None, None, None)
    assert (plain.criterion, plain.allocator) == (L2(), Ranked())
    other = job.choose(None, "taylor", "uniform", 0.5)
    assert (other.criterion, other.allocator) == (Taylor(), Uniform(per_macs=0.5))
    assert job.choose(None, None, "ranked:min_keep=2", 1.0).allocator == Ranked(per_macs=1.0, min_keep=2)


def test_a_method_is_made_with_its_options_and_takes_no_parts():
    assert job.choose("taylor:per_macs=0.5", None, None, None) == TaylorGates(per_macs=0.5)
    for parts in (("l1", None, None), (None, "uniform", None), (None, None, 0.0)):
        with pytest.raises(typer.BadParameter, match="leave one out"):
            job.choose("taylor", *parts)


def test_what_needs_data_and_why():
    l2, taylor = job.choose(None, "l2", None, None), job.choose(None, "taylor", None, None)
    assert job.need(l2, NO, "none") is None
    assert "gradients" in job.need(taylor, NO, "none")
    assert "folds" in job.need(job.choose("slimming", None, None, None), NO, "none")
    assert "--repair fold" in job.need(l2, NO, "fold")
    assert "--finetune" in job.need(l2, ONE, "none")
    assert job.load_data(None, None) is None
    assert job.load_data("digits", None).name == "digits"
    with pytest.raises(NeedsData, match="because: give --data"):
        job.load_data(None, "because")


def test_who_needs_a_budget():
    assert job.allowance("macs=0.5", job.choose(None, None, None, None)).macs == 0.5
    assert job.allowance(None, job.choose("li2017", None, None, None)) is None
    assert job.allowance(None, job.choose(None, None, "uniform:keep=0.5", None)) is None
    with pytest.raises(typer.BadParameter, match="how much"):
        job.allowance(None, job.choose(None, None, "uniform", None))
    with pytest.raises(BadBudget):
        job.allowance("half", job.choose("li2017", None, None, None))
