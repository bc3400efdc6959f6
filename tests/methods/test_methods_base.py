"""Methods that only choose a criterion and an allocator: which ones, and that the plan is theirs."""

import pytest

import secateur
from held import batches, loss
from nets import graph
from secateur.allocation.ranked import Ranked
from secateur.allocation.uniform import Uniform
from secateur.criteria.l1 import L1
from secateur.criteria.l2 import L2
from secateur.criteria.random import Random
from secateur.criteria.taylor import Taylor
from secateur.errors import NeedsData, UnknownName
from secateur.methods.base import METHODS, Method

BUDGET = secateur.Budget(macs=0.5)
PARTS = {
    "l1": (L1(), Uniform()),
    "l2": (L2(), Ranked()),
    "random": (Random(), Uniform()),
    "taylor": (Taylor(), Ranked()),
}


@pytest.mark.parametrize("name", PARTS)
def test_the_plan_is_that_of_its_parts(name):
    g, (criterion, allocator) = graph("digits-resnet"), PARTS[name]
    data = batches(g.example)
    scores = secateur.score(g, criterion, batches=data, loss=loss, seed=3)
    expected = secateur.allocate(g, scores, BUDGET, allocator=allocator)
    method = METHODS.make(name)
    assert (method.criterion, method.allocator) == (criterion, allocator)
    assert method.plan(g, BUDGET, batches=iter(data), loss=loss, seed=3) == expected


@pytest.mark.parametrize("name", sorted(secateur.methods()))
def test_options_are_plain_data_that_make_the_method_again(name):
    cls = secateur.methods()[name]
    method = cls()
    assert cls(**method.options()) == method
    assert all(isinstance(v, (bool, int, float, str)) for v in method.options().values())
    assert method.paper.count("(") == 1


@pytest.mark.parametrize("name", ["l1", "l2", "taylor"])
def test_macs_weigh_in(name):
    g = graph("digits-vgg")
    data = batches(g.example)
    plain, weighted = (
        secateur.methods()[name](per_macs=p).plan(g, BUDGET, batches=data, loss=loss) for p in (0.0, 0.5)
    )
    assert plain.widths(g) != weighted.widths(g)


def test_random_plans_hang_on_the_seed():
    g = graph("digits-vgg")
    method = METHODS.make("random")
    assert method.plan(g, BUDGET, seed=1) == method.plan(g, BUDGET, seed=1) != method.plan(g, BUDGET, seed=2)


def test_what_is_missing_is_named():
    with pytest.raises(NeedsData):
        METHODS.make("taylor").plan(graph("plain"), BUDGET)
    with pytest.raises(UnknownName, match="Did you mean 'slimming'"):
        METHODS.make("sliming")


def test_the_default_is_a_ranking_by_l2():
    class Mine(Method):
        pass

    assert (Mine().criterion, Mine().allocator) == (L2(), Ranked())
    g = graph("plain")
    assert Mine().plan(g, BUDGET) == METHODS.make("l2").plan(g, BUDGET)
