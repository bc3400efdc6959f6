"""Merging: a unit that does what another does goes without a trace; what reads it is added to what reads the other."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from held import assert_unchanged, difference, run, same_weights, tensors_of
from nets import ALL, HAND, OURS, Head, conv_bn, fill, fresh, graph, images
from secateur.errors import SurgeryError, VerificationError
from secateur.groups.plan import Fold, Keep, Merge, Plan
from secateur.surgery.blocks import verify_blocks
from secateur.surgery.cut import replace_by
from secateur.surgery.merge import merged, with_tensors
from secateur.surgery.mergeable import mergeable
from secateur.surgery.verify import verify
from twins import merging, removing, twin

EXACT = 1e-9


def pairs_of(g, seed=0):
    """In each group of at least two units that can be merged, one that goes and one that stays."""
    rng = np.random.default_rng(seed)
    may = mergeable(g, [x for x in g.groups if x.size > 1])
    return {name: tuple(rng.permutation(g[name].size)[:2].tolist()) for name in may.kin}


@pytest.mark.parametrize("name", [*HAND, *OURS])
def test_twins_merge_and_nothing_changes(name):
    pairs = pairs_of(graph(name), seed=3)
    g = twin(graph(name), pairs)
    whole, small = run(g.model, g.example), secateur.cut(g, merging(g, pairs))
    assert difference(whole, run(small.model.double(), g.example)) < 1e-6  # weights were rounded to float32 once
    assert small.check.max_error < EXACT
    assert difference(whole, run(secateur.cut(g, removing(g, pairs)).model, g.example)) > 1e-5


@pytest.mark.parametrize("name", [*HAND, "digits-resnet"])
def test_one_group_at_a_time_in_double_precision(name):
    dense = secateur.trace(copy.deepcopy(graph(name).model).double(), double(graph(name).example))
    for group, pair in pairs_of(dense, seed=1).items():
        g = twin(dense, {group: pair})
        whole, small = run(g.model, g.example), secateur.cut(g, merging(g, {group: pair})).model
        assert difference(whole, run(small, g.example)) < 1e-12, group


def double(example):
    return (
        {k: double(v) for k, v in example.items()}
        if isinstance(example, dict)
        else (example.double() if example.is_floating_point() else example)
    )


def test_weights_by_hand():
    g = graph("mlp")
    keep = Keep(group="0", units=(0, 1, 2, 5, 6, 8))
    merge = Merge(group="0", units=(3, 4, 7), into=(1, 1, 8), factors=(1.0, 0.5, -2.0))
    small = secateur.cut(g, Plan(edits=(keep, merge))).model
    own, kept = g.model[2].weight.detach().double(), [0, 1, 2, 5, 6, 8]
    wanted = own[:, kept].clone()
    wanted[:, 1] += own[:, 3] + 0.5 * own[:, 4]
    wanted[:, 5] -= 2 * own[:, 7]
    assert torch.equal(small[2].weight, wanted.float())
    assert torch.equal(small[0].weight, g.model[0].weight[kept])
    assert torch.equal(small[0].bias, g.model[0].bias[kept])
    assert torch.equal(small[4].weight, g.model[4].weight)


def test_every_position_of_a_flattened_channel_goes_to_its_own():
    g = graph("flat")
    merge = Merge(group="two", units=(1, 2), into=(4, 0), factors=(0.5, -2.0))
    small = secateur.cut(g, Plan(edits=(Keep(group="two", units=(0, 3, 4)), merge))).model
    own = g.model.hidden.weight.detach().double().reshape(11, 5, 16)
    wanted = own[:, [0, 3, 4]].clone()
    wanted[:, 2] += 0.5 * own[:, 1]
    wanted[:, 0] -= 2.0 * own[:, 2]
    assert torch.equal(small.hidden.weight, wanted.reshape(11, 48).float())


def test_each_reader_is_merged():
    g = graph("named")
    small = secateur.cut(g, merging(g, {"hidden": (9, 2)})).model
    for own, cut in ((g.model.out, small.out), (g.model.other, small.other)):
        assert torch.equal(cut.weight[:, 2], (own.weight[:, 2].double() + own.weight[:, 9].double()).float())


def test_a_grouped_reader_merges_in_each_of_its_groups():
    g = graph("grouped")
    small = secateur.cut(g, merging(g, {"stem.0": (2, 0)})).model
    own = g.model.grouped[0].weight.detach().double()
    assert torch.equal(small.grouped[0].weight, torch.stack([own[:, 0] + own[:, 2], own[:, 1]], 1).float())


def test_heads_merge():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = 4
            self.q, self.k, self.v, self.out = nn.Linear(6, 12), nn.Linear(6, 12), nn.Linear(6, 12), nn.Linear(12, 3)

        def forward(self, x):
            q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
            y = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.out(y.transpose(1, 2).flatten(2))

    dense = secateur.trace(fill(Attention()).double(), images(2, 5, 6).double())
    assert dense["q"].kind == "head"
    pairs = {"q": (0, 3)}
    g = twin(dense, pairs)
    small = secateur.cut(g, merging(g, pairs)).model
    assert small.heads == 3
    assert difference(run(g.model, g.example), run(small, g.example)) < 1e-12


def test_a_scaled_twin_behind_relu():
    g = graph("nonorm")
    model = copy.deepcopy(g.model).double()
    with torch.no_grad():
        for layer in (model.one, model.two):
            layer.weight[5], layer.bias[5] = 0.3 * layer.weight[2], 0.3 * layer.bias[2]
    g = secateur.trace(model, g.example.double())
    pairs = {"one": (5, 2), "two": (5, 2)}
    whole = run(model, g.example)
    assert difference(whole, run(secateur.cut(g, merging(g, pairs, 0.3)).model, g.example)) < 1e-12
    assert difference(whole, run(secateur.cut(g, merging(g, pairs, 1.0)).model, g.example)) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sums_are_made_in_double_and_rounded_once(dtype):
    net = fill(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))).to(dtype)
    net[2].weight.data[:] = torch.tensor([[1.0, 2.0**-9, 2.0**-9], [1.0, 2.0**-14, 3.0]]).to(dtype)
    g = secateur.trace(net, images(2, 4).to(dtype))
    plan = Plan(edits=(Keep(group="0", units=(0,)), Merge(group="0", units=(1, 2), into=(0, 0))))
    small = secateur.cut(g, plan).model
    assert {p.dtype for p in small.parameters()} == {dtype}
    wanted = net[2].weight.double().sum(1, keepdim=True).to(dtype)  # one by one, the first row would stay 1 in bfloat16
    assert torch.equal(small[2].weight, wanted)


def test_the_check_says_what_it_held_the_model_against():
    g = graph("padded")
    plan = merging(g, {"a.0": (3, 4)})
    check = secateur.cut(g, plan).check
    assert check.reference == "the original with removed units merged into others and masked"
    assert check.max_error < EXACT
    fold = Fold(group="stem.0", reader="a.0.weight", units=(2,), constants=((0.4,),))
    keep = Keep(group="stem.0", units=(0, 1, 3, 4, 5))
    both = secateur.cut(g, Plan(edits=(*plan.edits, keep, fold))).check
    assert both.reference.endswith("merged into others and masked, their constants folded")
    assert both.max_error < EXACT
    blocks = secateur.cut(g, plan, verify="block").check
    assert blocks.reference.startswith(f"{check.reference}, ")
    assert blocks.max_error < EXACT


def test_a_cut_that_was_not_merged_is_found():
    g = graph("padded")
    plan = merging(g, {"a.0": (3, 4), "stem.0": (0, 5)})
    small = secateur.cut(g, removing(g, {"a.0": (3, 4), "stem.0": (0, 5)})).model
    for check in (verify, verify_blocks):
        with assert_unchanged(g.model, small), pytest.raises(VerificationError, match="merged into others and masked"):
            check(g, plan, small)
    verify(g, removing(g, {"a.0": (3, 4), "stem.0": (0, 5)}), small)


def test_nothing_but_the_copy_is_touched():
    g = graph("resnet20")
    with assert_unchanged(g.model):
        pruned = secateur.cut(g, merging(g, pairs_of(g)))
    assert not {id(t) for t in tensors_of(pruned.model).values()} & {id(t) for t in tensors_of(g.model).values()}


def test_gradients_notes_and_sharing_survive():
    model = fresh("tied")
    model.d.weight.requires_grad_(False)
    model.d.weight.note = "mine"
    model.b.weight.note = "too"
    g = secateur.trace(model, ALL["tied"].example)
    small = secateur.cut(g, merging(g, {"a": (1, 6)})).model
    assert small.b.weight is small.c.weight
    assert not small.d.weight.requires_grad
    assert small.b.weight.requires_grad
    assert (small.d.weight.note, small.b.weight.note) == ("mine", "too")


def test_in_place_it_is_whole_or_nothing():
    model, example = fresh("padded"), ALL["padded"].example
    g = secateur.trace(model, example)
    plan = merging(g, {"a.0": (3, 4), "b.0": (0, 2)})
    pruned = secateur.cut(g, plan)
    replace_by(model, pruned.model, pruned.edits)
    assert same_weights(model, pruned.model)
    other = secateur.trace(fresh("depthwise"), example)
    bad = Plan(edits=(*merging(other, {"last.0": (0, 1), "stem.0": (2, 1)}).edits,))
    with assert_unchanged(other.model), pytest.raises(SurgeryError, match=r"deep\.0\.weight"):
        secateur.cut(other, bad)


def test_two_cuts_are_one_by_the_composed_plan():
    g = secateur.trace(copy.deepcopy(graph("padded").model).double(), graph("padded").example.double())
    first = Plan(
        edits=(
            Keep(group="a.0", units=(0, 1, 2, 4, 6, 7)),
            Merge(group="a.0", units=(3, 5, 8), into=(1, 7, 7), factors=(0.5, 1.0, 2.0)),
        )
    )
    middle = secateur.trace(secateur.cut(g, first).model, g.example)
    # Of the middle model: its unit 5, which was unit 7, goes into its unit 3, which was unit 4.
    later = Plan(edits=(Keep(group="a.0", units=(0, 3, 4)), Merge(group="a.0", units=(1, 5), into=(0, 3))))
    twice, once = secateur.cut(middle, later), secateur.cut(g, first.then(later))
    assert once.plan.merges["a.0"].into == (0, 0, 4, 4, 4)
    ours, theirs = tensors_of(once.model), tensors_of(twice.model)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-13, atol=1e-13)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    g = graph("padded")
    pruned = secateur.cut(g, merging(g, {"a.0": (3, 4), "stem.0": (0, 5)}))
    secateur.save(pruned, tmp_path / "model.safetensors")
    into = fresh("padded", seed=7)
    with assert_unchanged(into, pruned.model):
        loaded = secateur.load(tmp_path / "model.safetensors", into=into)
    assert same_weights(loaded, pruned.model)
    assert not same_weights(loaded, secateur.cut(g, removing(g, {"a.0": (3, 4), "stem.0": (0, 5)})).model)


def test_an_optimizer_is_carried():
    model, example = fresh("plain"), ALL["plain"].example
    optimizer = torch.optim.Adam(model.parameters())
    model(example).square().sum().backward()
    optimizer.step()
    g = secateur.trace(model, example)
    pruned = secateur.cut(g, merging(g, {"one.0": (3, 4)}))
    carried = secateur.carry(optimizer, pruned)
    before = [p.detach().clone() for p in pruned.model.parameters()]
    pruned.model(example).square().sum().backward()
    carried.step()
    for p, old in zip(pruned.model.parameters(), before, strict=True):
        assert carried.state[p]["exp_avg"].shape == p.shape
        assert not torch.equal(p, old)


def test_a_merged_graph_shares_what_it_does_not_change():
    g = graph("padded")
    with assert_unchanged(g.model):
        other = merged(g, merging(g, {"a.0": (3, 4)}))
    ours, theirs = tensors_of(g.model), tensors_of(other.model)
    assert [n for n in ours if ours[n] is not theirs[n]] == ["b.0.weight"]
    assert merged(g, Plan()) is g


def test_with_tensors_keeps_shared_ones_shared():
    model = fresh("tied")
    other = with_tensors(model, {"b.weight": torch.zeros(8, 8)})
    assert other.b.weight is other.c.weight
    assert other.a.weight is model.a.weight
    assert model.b.weight.abs().sum() > 0


def test_mean_folding_leaves_merged_units_alone():
    g = graph("padded")
    plan = Plan(edits=(Keep(group="a.0", units=tuple(range(8))), Merge(group="a.0", units=(9,), into=(1,))))
    folded = secateur.surgery.fold.fold_means(g, plan, [g.example])
    assert folded.folds[0].units == (8,)
    secateur.cut(g, folded)


def test_nothing_to_merge_into_a_transposed_reader_by_mistake():
    """Its weight holds what it reads first."""
    net = nn.Sequential(conv_bn(1, 6), nn.ConvTranspose2d(6, 4, 2, stride=2), nn.ReLU(), Head(4))
    g = secateur.trace(fill(net), images(2, 1, 8, 8))
    small = secateur.cut(g, merging(g, {"0.0": (5, 1)})).model
    own = net[1].weight.detach().double()
    assert torch.equal(small[1].weight[1], (own[1] + own[5]).float())
