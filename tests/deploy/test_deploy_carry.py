"""carry: one more step of a carried optimizer is the step of the uncut model, read at the kept indices."""

import copy

import pytest
import torch
from deploy_carried import (
    HALF,
    KINDS,
    Given,
    O,
    X,
    at,
    facts,
    net,
    plain,
    same_at_kept,
    same_facts,
    silence,
    step,
    trained,
)
from torch import nn

import secateur
from secateur.allocation.uniform import Uniform
from secateur.errors import SecateurError


@pytest.mark.parametrize("kind", KINDS)
def test_further_steps_are_those_of_the_whole_model_at_kept_indices(kind):
    model, optimizer = trained(KINDS[kind])
    graph, plan = silence(model)
    pruned = secateur.cut(graph, plan)
    before = facts(optimizer)
    carried = secateur.carry(optimizer, pruned)
    same_facts(facts(optimizer), before)
    assert type(carried) is type(optimizer)
    held = [p for g in carried.param_groups for p in g["params"]]
    assert {id(p) for p in held} <= {id(p) for p in pruned.model.parameters()}
    assert [len(g["params"]) for g in carried.param_groups] == [len(g["params"]) for g in optimizer.param_groups]
    step(pruned.model, carried, seed=20)
    same_facts(facts(optimizer), before)  # and the step was of the cut model alone
    step(model, optimizer, seed=20)
    same_at_kept(model, pruned)


@pytest.mark.parametrize("kind", ["momentum", "AdamW"])
def test_without_what_was_carried_the_step_is_another(kind):
    model, optimizer = trained(KINDS[kind])
    graph, plan = silence(model)
    pruned = secateur.cut(graph, plan)
    step(pruned.model, KINDS[kind](pruned.model), seed=20)
    step(model, optimizer, seed=20)
    with pytest.raises(AssertionError):
        same_at_kept(model, pruned)


@pytest.mark.parametrize("kind", ["momentum", "AdamW", "fused"])
def test_a_cut_in_place(kind):
    whole, theirs = trained(KINDS[kind])
    _, plan = silence(whole)
    mine, optimizer = trained(KINDS[kind])
    mine.load_state_dict(whole.state_dict())
    before = facts(optimizer)
    pruned = secateur.prune_(mine, X, allocator=Given(plan))
    carried = secateur.carry(optimizer, pruned)
    same_facts(facts(optimizer), before)
    assert {id(p) for g in carried.param_groups for p in g["params"]} <= {id(p) for p in mine.parameters()}
    step(whole, theirs, seed=20)
    step(mine, carried, seed=20)
    same_at_kept(whole, pruned)


@pytest.mark.parametrize("in_place", [True, False])
def test_two_cuts_in_a_row(in_place):
    """State that is carried twice is the state at the indices of the composed plan."""
    model, optimizer = trained(KINDS["AdamW"])
    state = {n: optimizer.state[p]["exp_avg"].clone() for n, p in model.named_parameters() if p in optimizer.state}
    graph = secateur.trace(net(), X)
    if in_place:
        first = secateur.prune_(model, X, allocator=Uniform(keep=0.8))
        carried = secateur.carry(optimizer, first)
        second = secateur.prune_(first.model, X, allocator=Uniform(keep=0.7))
    else:
        first = secateur.prune(model, X, allocator=Uniform(keep=0.8))
        carried = secateur.carry(optimizer, first)
        second = secateur.prune(first, X, allocator=Uniform(keep=0.7))
        with pytest.raises(SecateurError, match=r"shape \(8,\)|shape \(8, 3, 3, 3\)"):
            secateur.carry(optimizer, second)  # trained the one before the last
    last = secateur.carry(carried, second)
    both = secateur.cut(graph, first.plan.then(second.plan)).edits
    for name, p in second.model.named_parameters():
        if name in state:
            assert torch.equal(last.state[p]["exp_avg"], at(state[name], both, name))
    step(second.model, last)


def test_an_optimizer_of_other_weights_is_refused():
    model, optimizer = trained(KINDS["momentum"])
    pruned = secateur.prune(model, X, allocator=HALF)
    before = facts(optimizer)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(7, 2))]})
    with pytest.raises(SecateurError, match=r"\(7, 2\)"):
        secateur.carry(optimizer, pruned)
    with pytest.raises(SecateurError):
        secateur.carry(trained(KINDS["momentum"])[1], pruned)  # of a twin
    del optimizer.param_groups[-1]
    same_facts(facts(optimizer), before)


def test_an_optimizer_of_a_part_of_the_model_or_without_a_step():
    model = net()
    optimizer = O.AdamW([model.head.weight, model.one[0].weight], lr=0.1)
    pruned = secateur.prune(model, X, allocator=HALF)
    carried = secateur.carry(optimizer, pruned)
    held = [p for g in carried.param_groups for p in g["params"]]
    assert held[0] is pruned.model.head.weight
    assert held[1] is pruned.model.one[0].weight
    assert not carried.state
    step(pruned.model, carried)
    assert carried.state[held[0]]["exp_avg"].shape == (3, 5)


def test_a_state_dict_goes_to_an_optimizer_made_anew():
    model, optimizer = trained(KINDS["AdamW"])
    pruned = secateur.prune(model, X, allocator=HALF)
    carried = secateur.carry(optimizer, pruned)
    other = copy.deepcopy(pruned.model)
    fresh = KINDS["AdamW"](other)
    fresh.load_state_dict(copy.deepcopy(carried.state_dict()))
    step(pruned.model, carried)
    step(other, fresh)
    for a, b in zip(pruned.model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_schedule_goes_on_with_the_carried_optimizer():
    model = net()
    optimizer = KINDS["momentum"](model)
    schedule = O.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    step(model, optimizer)
    schedule.step()
    pruned = secateur.prune(model, X, allocator=HALF)
    carried = secateur.carry(optimizer, pruned)
    assert carried.param_groups[0]["lr"] == 0.025
    before = facts(optimizer)
    step(pruned.model, carried)
    same_facts(facts(optimizer), before)
    later = O.lr_scheduler.StepLR(carried, 1, gamma=0.5, last_epoch=0)
    step(pruned.model, carried)
    later.step()
    assert carried.param_groups[0]["initial_lr"] == 0.05
    assert optimizer.param_groups[0]["lr"] == 0.025


@pytest.mark.parametrize("make", [plain(O.Adafactor, lr=0.01), plain(O.LBFGS, lr=0.01)])
def test_state_of_other_shapes_is_cut_or_refused_by_name(make):
    """Adafactor holds rows and columns of a weight, LBFGS one vector for all weights."""
    model = net()
    optimizer = make(model)

    def loss():
        optimizer.zero_grad()
        out = model(X).square().mean()
        out.backward()
        return out

    loss()
    optimizer.step(loss)
    pruned = secateur.prune(model, X, allocator=HALF)
    try:
        carried = secateur.carry(optimizer, pruned)
    except SecateurError:
        return

    def small():
        carried.zero_grad()
        out = pruned.model(X).square().mean()
        out.backward()
        return out

    small()
    carried.step(small)
    for p in pruned.model.parameters():
        for value in carried.state[p].values():
            if isinstance(value, torch.Tensor) and value.dim() == p.dim():
                assert all(n in (1, m) for n, m in zip(value.shape, p.shape, strict=True))
