"""Models in odd states: frozen, made in inference mode, on the meta device, compiled, cut before, stored."""

import copy

import pytest
import torch
import torch.nn.functional as F
from odd_all import CASES
from odd_case import graph, new, refusal

import secateur
from held import assert_unchanged, difference, random_plan, run, same_weights, tensors_of
from secateur.errors import BadModel, SecateurError
from secateur.surgery.checkpoint import load, save

SMALL = secateur.Budget(params=0.7)
SEVERAL = ["Glu", "Einsum", "GroupNormOfTwo", "TiedHead", "Stream", "TwoInputs"]


@pytest.mark.parametrize("name", SEVERAL)
def test_frozen_weights_are_cut_and_stay_frozen(name):
    model = new(name).requires_grad_(False)
    with assert_unchanged(model):
        pruned = secateur.prune(model, CASES[name].example, budget=SMALL)
    free = secateur.prune(new(name), CASES[name].example, budget=SMALL)
    assert same_weights(pruned.model, free.model)
    assert not any(p.requires_grad for p in pruned.model.parameters())


@pytest.mark.parametrize("name", SEVERAL)
def test_weights_made_in_inference_mode(name):
    with torch.inference_mode():
        model = new(name)
    with assert_unchanged(model):
        pruned = secateur.prune(model, CASES[name].example, budget=SMALL)
    assert same_weights(pruned.model, secateur.prune(new(name), CASES[name].example, budget=SMALL).model)


@pytest.mark.parametrize("name", SEVERAL)
def test_a_prune_inside_inference_mode(name):
    model = new(name)
    with torch.inference_mode(), assert_unchanged(model):
        pruned = secateur.prune(model, CASES[name].example, budget=SMALL)
    assert same_weights(pruned.model, secateur.prune(new(name), CASES[name].example, budget=SMALL).model)


@pytest.mark.parametrize("name", [n for n in SEVERAL if n != "TiedHead"])  # `.to("meta")` itself unties weights
def test_the_meta_device_is_traced_and_refused_to_be_cut(name):
    """Shapes alone give the same groups, and a plan that fits the real model; a cut could not be verified."""
    model, real = new(name).to("meta"), graph(name)
    example = secateur.graph.example.map_tensors(CASES[name].example, lambda t: t.to("meta"))
    g = secateur.trace(model, example)
    assert [(x.name, x.size, x.kind) for x in g.groups] == [(x.name, x.size, x.kind) for x in real.groups]
    assert [(f.name, f.reason) for f in g.frozen] == [(f.name, f.reason) for f in real.frozen]
    plan = random_plan(g, seed=4, keep=0.5)
    assert secateur.cut(real, plan).check.max_error <= 1e-6
    with pytest.raises(SecateurError, match="meta"):
        secateur.cut(g, plan)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["Glu", "Einsum", "Stream", "LayerNormStream", "TiedHead"])
def test_half_precision_is_kept(name, dtype):
    model = new(name).to(dtype)
    to = secateur.graph.example.map_tensors(CASES[name].example, lambda t: t.to(dtype) if t.is_floating_point() else t)
    with assert_unchanged(model):
        pruned = secateur.prune(model, to, budget=SMALL)
    assert {t.dtype for t in tensors_of(pruned.model).values() if t.is_floating_point()} == {dtype}
    assert pruned.check.max_error <= 1e-6


@pytest.mark.parametrize("name", ["Stream", "Inverted", "C2f", "ConvNextBlock", "UNet"])
def test_channels_last_is_kept(name):
    model = new(name).to(memory_format=torch.channels_last)
    example = CASES[name].example.to(memory_format=torch.channels_last)
    with assert_unchanged(model):
        pruned = secateur.prune(model, example, budget=SMALL)
    weights = [p for p in pruned.model.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    assert same_weights(pruned.model, secateur.prune(new(name), CASES[name].example, budget=SMALL).model)


def test_a_compiled_model_is_cut_exactly_or_refused_by_name():
    model = new("Stream").eval()
    compiled = torch.compile(model, backend="eager")
    compiled(CASES["Stream"].example)
    with assert_unchanged(model):
        told = refusal(BadModel, lambda: secateur.trace(compiled, CASES["Stream"].example))
    if told is not None:
        assert "compile" in told
        return
    pruned = secateur.prune(compiled, CASES["Stream"].example, budget=SMALL)
    free = secateur.prune(new("Stream"), CASES["Stream"].example, budget=SMALL)
    assert difference(run(free.model, CASES["Stream"].example), run(pruned.model, CASES["Stream"].example)) < 1e-9


@pytest.mark.parametrize("name", [*SEVERAL, "FusedSplit", "MiniSwin", "LayerNormStream", "Lstm"])
def test_a_model_that_was_cut_is_cut_again(name):
    """Its own forward runs at its new widths, so that it is as good as any; two cuts are one."""
    g = graph(name)
    first = random_plan(g, seed=5, keep=0.7)
    once = secateur.cut(g, first, verify="off")
    again = secateur.trace(once.model, g.example)
    assert {x.name: x.size for x in again.groups} == first.widths(g)
    second = random_plan(again, seed=6, keep=0.5)
    twice = secateur.cut(again, second)
    assert same_weights(twice.model, secateur.cut(g, first.then(second), verify="off").model)


@pytest.mark.parametrize("name", [*SEVERAL, "GroupedQueries", "MiniSwin", "LayerNormOfMap", "Lstm", "Inverted"])
def test_what_is_stored_is_what_is_read(name, tmp_path):
    """On a fresh instance of the author's class, with attributes that follow."""
    g = graph(name)
    pruned = secateur.cut(g, random_plan(g, seed=7, keep=0.5))
    save(pruned, tmp_path / "small.safetensors")
    assert same_weights(load(tmp_path / "small.safetensors", into=new(name)), pruned.model)


def test_head_counts_are_not_left_stale():
    g = graph("IndexedQkv")
    group = next(x for x in g.groups if any(m.tensor == "proj.weight" and m.axis == 1 for m in x.members))
    small = secateur.cut(g, secateur.Plan.keeping(g, {group.name: [0, 2]})).model
    assert small.heads * small.dim == small.proj.in_features == small.qkv.out_features // 3
    if group.size == 3:  # whole heads, of 4 numbers each, in each of three blocks
        rows = [block * 12 + head * 4 + i for block in range(3) for head in (0, 2) for i in range(4)]
        assert torch.equal(small.qkv.weight, g.model.qkv.weight[rows])
        assert torch.equal(small.proj.weight, g.model.proj.weight[:, [*range(4), *range(8, 12)]])


def test_tied_weights_stay_tied():
    g = graph("TiedHead")
    small = secateur.cut(g, random_plan(g, keep=0.5)).model
    assert small.head.weight is small.table.weight
    shared = secateur.cut(graph("SharedByModules"), random_plan(graph("SharedByModules"), keep=0.5)).model
    assert shared.left[0].weight is shared.right[0].weight


@pytest.mark.parametrize("norm", ["LayerNormStream", "RmsNormStream", "TorchRmsNormStream"])
def test_a_normed_stream_cut_by_hand(norm):
    """The reference where zeros are not absence: slices written out, the mean over what is kept."""
    g = graph(norm)
    kept, hidden = [0, 2, 3, 7], [1, 4, 5]
    names = {m.tensor: x.name for x in g.groups for m in x.members}
    small = secateur.cut(g, secateur.Plan.keeping(g, {names["first.weight"]: kept, names["up.weight"]: hidden})).model
    net, x = copy.deepcopy(g.model).double().eval(), CASES[norm].example.double()

    def normed(x, layer):
        if norm == "LayerNormStream":
            return F.layer_norm(x, (4,), layer.weight[kept], layer.bias[kept])
        eps = 1e-6 if norm == "RmsNormStream" else torch.finfo(torch.float64).eps
        return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * layer.weight[kept]

    x = F.linear(x, net.stem.weight[kept], net.stem.bias[kept])
    y = F.silu(F.linear(normed(x, net.first), net.up.weight[hidden][:, kept], net.up.bias[hidden]))
    x = x + F.linear(y, net.down.weight[kept][:, hidden], net.down.bias[kept])
    wanted = F.linear(normed(x, net.last), net.head.weight[:, kept], net.head.bias)
    assert difference([wanted.detach()], run(small, g.example)) < 1e-9


def test_a_group_norm_cut_by_hand():
    """Two groups of four lose the same channels; mean and variance over what is left of each."""
    g = graph("GroupNormOfTwo")
    name = next(x.name for x in g.groups if any(m.tensor == "norm.weight" for m in x.members))
    small = secateur.cut(g, secateur.Plan.keeping(g, {name: [0, 1, 3]})).model
    net, x, kept = copy.deepcopy(g.model).double().eval(), CASES["GroupNormOfTwo"].example.double(), [0, 1, 3, 4, 5, 7]
    x = F.conv2d(x, net.one.weight[kept], net.one.bias[kept]).unflatten(1, (2, 3))
    x = (x - x.mean((2, 3, 4), keepdim=True)) / (x.var((2, 3, 4), keepdim=True, unbiased=False) + 1e-5).sqrt()
    x = F.relu(x.flatten(1, 2) * net.norm.weight[kept, None, None] + net.norm.bias[kept, None, None])
    wanted = net.head(F.relu(F.conv2d(x, net.two.weight[:, kept], net.two.bias)))
    assert difference([wanted.detach()], run(small, g.example)) < 1e-9
    assert small.norm.num_groups == 2
