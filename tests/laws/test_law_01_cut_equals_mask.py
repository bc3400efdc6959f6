"""Law 1: removing units equals zeroing them. Verified, and held against references that share nothing with verify."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from held import MEETING, WIDE, assert_unchanged, batches, difference, loss, random_plan, run, tensors_of, zeroed
from nets import ALL, HAND, OURS, fresh, graph
from secateur.groups.plan import Plan


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("keep", [None, 0.5, 0.0])  # a random part, half, a single unit of every group
def test_a_cut_model_gives_what_zeroed_weights_give(name, keep):
    g = graph(name)
    plan = random_plan(g, seed=3, keep=keep)
    with assert_unchanged(g.model):
        pruned = secateur.cut(g, plan)
    assert pruned.check.max_error <= 1e-9
    assert difference(run(zeroed(g, plan), g.example), run(pruned.model, g.example)) < 1e-9
    assert type(pruned.model) is type(g.model)


@pytest.mark.parametrize("name", HAND | OURS)
def test_zeroing_changes_the_output(name):
    """Else the law would say nothing: the removed units matter."""
    g = graph(name)
    plan = random_plan(g, keep=0.5)
    assert difference(run(g.model, g.example), run(zeroed(g, plan), g.example)) > 1e-3


@pytest.mark.parametrize("name", HAND)
def test_any_single_unit_can_go(name):
    g = graph(name)
    for group in g.groups:
        for unit in range(group.size):
            plan = Plan.keeping(g, {group.name: [u for u in range(group.size) if u != unit]})
            pruned = secateur.cut(g, plan)
            assert difference(run(zeroed(g, plan), g.example), run(pruned.model, g.example)) < 1e-9


def test_a_plain_net_cut_by_hand():
    """No groups, no members: slices written out."""
    g = graph("plain")
    first, second = [0, 2, 3, 7], [1, 4, 5]
    cut = secateur.cut(g, Plan.keeping(g, {"one.0": first, "two.0": second})).model
    net = copy.deepcopy(g.model)
    expected = {name: t.detach().clone() for name, t in tensors_of(net).items()}
    for stage, kept in (("one", first), ("two", second)):
        for tensor in ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
            expected[f"{stage}.{tensor}"] = expected[f"{stage}.{tensor}"][kept]
    expected["two.0.weight"] = expected["two.0.weight"][:, first]
    expected["head.linear.weight"] = expected["head.linear.weight"][:, second]
    found = tensors_of(cut)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in found)
    assert (cut.one[0].out_channels, cut.two[0].in_channels, cut.two[0].out_channels) == (4, 4, 3)
    assert (cut.one[1].num_features, cut.head.linear.in_features) == (4, 3)


def test_a_concatenation_cut_by_hand():
    g = graph("concat")
    left, right = [0, 3], [1, 2, 6]
    cut = secateur.cut(g, Plan.keeping(g, {"left.0": left, "right.0": right})).model
    read = [*left, *(5 + r for r in right), *(12 + x for x in left)]  # left 5, right 7, left 5 again
    assert torch.equal(cut.left[0].weight, g.model.left[0].weight[left])
    assert torch.equal(cut.right[0].weight, g.model.right[0].weight[right])
    assert torch.equal(cut.join[0].weight, g.model.join[0].weight[:, read])


def test_a_padded_shortcut_cut_by_hand():
    """Stem channel i arrives at channel 1 + i of the wide stream; channels 0, 7, 8, 9 see padding."""
    g = graph("padded")
    cut = secateur.cut(g, Plan.keeping(g, {"stem.0": [0, 1, 4], "b.0": [1, 3]})).model
    assert (cut.before, cut.after) == (0, 2)  # of the four padded channels, the second and the last stay: 7 and 9
    assert torch.equal(cut.b[0].weight, g.model.b[0].weight[[1, 2, 5, 7, 9]])
    assert torch.equal(cut.head.linear.weight, g.model.head.linear.weight[:, [1, 2, 5, 7, 9]])


@pytest.mark.parametrize("criterion", WIDE)
@pytest.mark.parametrize("allocator", MEETING)
def test_plans_of_every_criterion_and_allocator_cut_exactly(criterion, allocator):
    g = graph("digits-resnet")
    scores = secateur.score(g, criterion, batches=batches(g.example), loss=loss)
    plan = secateur.allocate(g, scores, secateur.Budget(macs=0.4, params=0.6), allocator=allocator)
    pruned = secateur.cut(g, plan)
    assert difference(run(zeroed(g, plan), g.example), run(pruned.model, g.example)) < 1e-9


@pytest.mark.parametrize("name", ["plain", "padded", "depthwise", "twice", "named"])
def test_in_place_gives_the_same_model(name):
    made = secateur.prune(fresh(name), ALL[name].example, budget=secateur.Budget(macs=0.5))
    mine = fresh(name)
    modules = dict(mine.named_modules())
    done = secateur.prune_(mine, ALL[name].example, budget=secateur.Budget(macs=0.5))
    assert done.model is mine
    assert dict(mine.named_modules()) == modules  # the same module objects
    assert difference(run(made.model, ALL[name].example), run(mine, ALL[name].example)) == 0
    optimizer = torch.optim.SGD(mine.parameters(), lr=0.1)  # what is left can be trained
    loss(mine.train()(**ALL[name].example) if name == "named" else mine.train()(ALL[name].example), None).backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in mine.parameters())
    optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_kept(dtype):
    model = fresh("padded").to(dtype)
    pruned = secateur.prune(model, ALL["padded"].example.to(dtype), budget=secateur.Budget(macs=0.5))
    floats = [t for t in tensors_of(pruned.model).values() if t.is_floating_point()]
    assert {t.dtype for t in floats} == {dtype}
    assert pruned.check.max_error < 1e-9


def test_memory_format_gradients_switches_and_sharing_are_kept():
    model = fresh("padded").to(memory_format=torch.channels_last)
    model.a[0].weight.requires_grad_(False)
    g = secateur.trace(model, ALL["padded"].example)
    small = secateur.cut(g, random_plan(g, keep=0.7)).model
    assert small.a[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not small.a[0].weight.is_contiguous()
    assert [n for n, p in small.named_parameters() if not p.requires_grad] == ["a.0.weight"]
    assert isinstance(small.a[0].weight, nn.Parameter)
    tied = secateur.cut(graph("tied"), random_plan(graph("tied"), keep=0.5)).model
    assert tied.b.weight is tied.c.weight
    assert tied.b.weight.shape == (4, 4)


@pytest.mark.parametrize("name", HAND | OURS)
def test_units_kept_are_in_rising_order(name):
    """A cut keeps the order, so that plans can be read against the original."""
    g = graph(name)
    plan = random_plan(g, seed=5)
    assert all((np.diff(units) > 0).all() for units in plan.kept.values())
