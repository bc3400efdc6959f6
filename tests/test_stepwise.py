"""Pruning in steps: the budgets on the way, what is scored anew, and the exact budget at the end."""

import math
from functools import reduce

import pytest
import torch

import secateur
from held import assert_unchanged, batches, loss, same_weights
from nets import ALL, fresh
from secateur import Budget, stepwise
from secateur.allocation.ranked import Ranked
from secateur.cost.cost import CostModel
from secateur.errors import BadOption, BudgetUnreachable, NothingToDo, UnknownName
from secateur.groups.plan import Plan
from secateur.stepwise import prune_in_steps

NET = "digits-resnet"
EXAMPLE = ALL[NET].example


@pytest.fixture
def asked(monkeypatch):
    """The budgets that `prune` is asked for."""
    seen, real = [], stepwise.prune

    def prune(model, example, *, budget, **options):
        seen.append(budget)
        return real(model, example, budget=budget, **options)

    monkeypatch.setattr(stepwise, "prune", prune)
    return seen


def test_the_budgets_on_the_way(asked):
    net, called = fresh(NET), []
    dense = CostModel(secateur.trace(net, EXAMPLE)).dense()
    budget = Budget(macs=0.4, params=0.6 * dense.params, bytes=2.0 * dense.bytes)
    with assert_unchanged(net):
        pruned = prune_in_steps(net, EXAMPLE, budget=budget, steps=3, between=lambda m, step: called.append(step))
    for field, fractions in (("macs", (0.8, 0.6)), ("params", (0.6 / 3 + 2 / 3, 0.6 * 2 / 3 + 1 / 3))):
        whole = getattr(dense, field)
        assert [getattr(b, field) / whole for b in asked[:2]] == pytest.approx(fractions, abs=1e-12)
    assert [b.bytes for b in asked] == [2.0 * dense.bytes] * 3
    assert asked[-1] == Budget(macs=0.4 * dense.macs, params=0.6 * dense.params, bytes=2.0 * dense.bytes)
    assert pruned.before == dense
    assert pruned.after.macs <= 0.4 * dense.macs
    assert pruned.after.params <= 0.6 * dense.params
    assert called == [1, 2]
    assert len(pruned.origin.plans) == 3
    whole = secateur.cut(secateur.trace(net, EXAMPLE), reduce(Plan.then, pruned.origin.plans))
    assert same_weights(whole.model, pruned.model)


def test_the_last_step_meets_the_budget_and_no_more():
    """One unit given back would miss it, as when pruned at once."""
    pruned = prune_in_steps(fresh(NET), EXAMPLE, budget=Budget(params=0.37), steps=4, schedule="cubic")
    one = secateur.prune(fresh(NET), EXAMPLE, budget=Budget(params=0.37))
    limit = 0.37 * pruned.before.params
    biggest = max(CostModel(secateur.trace(fresh(NET), EXAMPLE)).per_unit("params").values())
    assert limit - biggest < pruned.after.params <= limit
    assert limit - biggest < one.after.params <= limit


def test_one_step_is_prune():
    def options():
        return {"criterion": "taylor", "batches": iter(batches(EXAMPLE)), "loss": loss, "seed": 3}

    one = prune_in_steps(fresh(NET), EXAMPLE, budget=Budget(macs=0.5), steps=1, **options())
    other = secateur.prune(fresh(NET), EXAMPLE, budget=Budget(macs=0.5), **options())
    assert one.plan == other.plan
    assert same_weights(one.model, other.model)


def test_each_step_scores_what_the_one_before_left():
    """What `between` makes small goes next, wherever it stood before."""
    net, gone = fresh(NET), []

    def between(model, step):
        with torch.no_grad():
            model.layer2[0].conv1.weight[:5] = 1e-9
        gone.append(model.layer2[0].conv1.weight.shape[0])

    options = {"frozen": [net.conv1.weight], "criterion": "l2"}
    pruned = prune_in_steps(net, EXAMPLE, budget=Budget(macs=0.7), steps=2, between=between, **options)
    last = pruned.origin.plans[1].kept["layer2.0.conv1"]
    assert not set(range(5)) & set(last.tolist())
    assert gone[0] > pruned.model.layer2[0].conv1.weight.shape[0]
    assert pruned.model.conv1.weight.shape == net.conv1.weight.shape  # a parameter stays frozen in later steps, too


def test_steps_without_anything_to_do_are_left_out(asked):
    """Widths in multiples of 8 go further than many small steps ask for."""
    called = []
    pruned = prune_in_steps(
        fresh(NET),
        EXAMPLE,
        budget=Budget(macs=0.5),
        steps=20,
        schedule="geometric",
        between=lambda m, step: called.append(step),
        allocator=Ranked(round_to=8),
    )
    assert pruned.after.macs <= 0.5 * pruned.before.macs
    assert 0 < len(called) < 12
    assert len(called) < len(asked) - 1
    assert called == sorted(called)
    assert len(pruned.origin.plans) == len(called) + 1  # every cut but the last is followed by a call


def test_an_earlier_cut_goes_on():
    first = secateur.prune(fresh(NET), EXAMPLE, budget=Budget(macs=0.8))
    then = prune_in_steps(first, EXAMPLE, budget=Budget(macs=0.5), steps=2)
    assert then.before == first.before
    assert then.after.macs <= 0.5 * first.after.macs
    assert len(then.origin.plans) == 3


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"steps": 0}, BadOption, "steps=0"),
        ({"schedule": "cubik"}, UnknownName, "Did you mean 'cubic'"),
        ({"allocator": Ranked(keep={"conv1": 0.5})}, BadOption, "keep=.* is a fraction"),
        ({"latency": None}, BadOption, "measured anew"),
        ({"allocator": Ranked(min_keep=0.2)}, BadOption, "min_keep=0.2 of allocator 'ranked'"),
        ({"budget": Budget(macs=1e-6)}, BudgetUnreachable, "reachable minimum"),
        ({"budget": Budget(macs=1e15)}, NothingToDo, "already"),
    ],
)
def test_refused_before_any_work(options, error, reason, asked):
    with pytest.raises(error, match=reason):
        prune_in_steps(fresh(NET), EXAMPLE, **{"budget": Budget(macs=0.5)} | options)
    assert asked == []


def test_a_fiftieth_of_the_parameters_by_snip_leaves_every_group_alive(asked):
    """SNAP-it: six steps towards the target and the target, gates scored anew in each, a floor of 2 %."""
    net = fresh(NET)
    with torch.no_grad():  # a layer that the loss hardly sees: without a floor all of it but one would go
        net.layer3[0].bn1.weight *= 1e-6
        net.layer3[0].bn1.bias *= 1e-6
    graph = secateur.trace(net, EXAMPLE)
    floor = {g.name: max(1, math.ceil(0.02 * g.size)) for g in graph.groups}
    pruned = prune_in_steps(
        net,
        EXAMPLE,
        budget=Budget(params=0.02),
        steps=7,
        schedule="halving",
        criterion="snip",
        allocator=Ranked(min_keep=floor),
        batches=batches(EXAMPLE),
        loss=loss,
    )
    whole = pruned.before.params
    expected = [1 - (0.98 - 0.48 * 0.5**i) for i in range(6)] + [0.02]
    assert [b.params / whole for b in asked] == pytest.approx(expected, abs=1e-12)
    assert pruned.after.params <= whole / 50
    assert pruned.after.params == sum(p.numel() for p in pruned.model.parameters())
    widths = {g.name: len(reduce(Plan.then, pruned.origin.plans).kept[g.name]) for g in graph.groups}
    assert all(widths[name] >= least for name, least in floor.items())
    assert widths["layer3.0.conv1"] == floor["layer3.0.conv1"] == 2
    assert torch.isfinite(pruned.model(EXAMPLE)).all()
