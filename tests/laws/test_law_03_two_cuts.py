"""Law 3: two cuts are one cut by the composed plan."""

import pytest

import secateur
from held import random_plan, same_weights
from nets import ALL, HAND, fresh, graph
from secateur.errors import PlanError
from secateur.groups.plan import Fold, Keep, Plan


@pytest.mark.parametrize("name", ALL)
def test_two_cuts_are_one_cut_by_the_composed_plan(name):
    g = graph(name)
    first = random_plan(g, seed=1, keep=0.8)
    middle = secateur.cut(g, first).model
    again = secateur.trace(middle, g.example)
    second = random_plan(again, seed=2, keep=0.6)
    twice = secateur.cut(again, second)
    once = secateur.cut(g, first.then(second))
    assert same_weights(twice.model, once.model)
    assert twice.after == once.after


@pytest.mark.parametrize("name", HAND)
def test_down_to_one_unit_in_two_steps(name):
    g = graph(name)
    first = random_plan(g, seed=3)
    again = secateur.trace(secateur.cut(g, first).model, g.example)
    second = random_plan(again, seed=4, keep=0.0)
    assert same_weights(secateur.cut(again, second).model, secateur.cut(g, first.then(second)).model)


def test_pruning_a_pruned_model_remembers_where_it_came_from():
    example = ALL["padded"].example
    first = secateur.prune(fresh("padded"), example, budget=secateur.Budget(macs=0.7))
    second = secateur.prune(first, example, budget=secateur.Budget(macs=0.7))
    assert second.before == first.before
    assert second.after.macs <= 0.7 * first.after.macs
    assert second.origin.plans == (first.plan, second.plan)
    g = graph("padded")
    assert same_weights(secateur.cut(g, first.plan.then(second.plan)).model, second.model)


def test_composition_by_hand():
    first = Plan(edits=(Keep(group="a", units=(1, 3, 4, 8)), Keep(group="b", units=(0, 2))))
    second = Plan(edits=(Keep(group="a", units=(0, 3)), Keep(group="c", units=(5,))))
    kept = first.then(second).kept
    assert {name: units.tolist() for name, units in kept.items()} == {"a": [1, 8], "b": [0, 2], "c": [5]}


def test_foldings_do_not_compose():
    folded = Plan(edits=(Fold(group="a", reader="w", units=(0,), constants=((1.0,),)),))
    for one, other in ((folded, Plan()), (Plan(), folded)):
        with pytest.raises(PlanError, match="compose"):
            one.then(other)
