"""Cut: what is sliced, what is restated, what survives."""

import pytest
import torch
from torch import nn

import secateur
from held import random_plan, tensors_of
from nets import ALL, HAND, OURS, fresh, graph
from secateur.graph.provenance import Attribute
from secateur.groups.plan import Keep, Plan
from secateur.surgery.cut import edits, restate


@pytest.mark.parametrize("name", HAND | OURS)
def test_layers_say_their_own_sizes(name):
    g = graph(name)
    model = secateur.cut(g, random_plan(g, seed=2, keep=0.5)).model
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert module.out_channels == module.weight.shape[0]
            assert module.in_channels == module.weight.shape[1] * module.groups
        elif isinstance(module, nn.ConvTranspose2d):
            assert (module.in_channels, module.out_channels) == tuple(module.weight.shape[:2])
        elif isinstance(module, nn.Linear):
            assert (module.out_features, module.in_features) == tuple(module.weight.shape)
            assert module.bias is None or module.bias.shape[0] == module.out_features
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert {module.num_features} == {t.shape[0] for n, t in tensors_of(module).items() if t.dim()}


def test_depthwise_layers_keep_one_channel_a_group():
    g = graph("depthwise")
    model = secateur.cut(g, Plan.keeping(g, {"stem.0": [0, 4], "point.0": [2, 3, 5]})).model
    assert (model.deep[0].groups, model.deep[0].weight.shape[1]) == (2, 1)
    assert (model.twice[0].groups, model.twice[0].out_channels) == (3, 6)


def test_edits_are_worked_out_and_nothing_else():
    g = graph("padded")
    plan = Plan(edits=(Keep(group="stem.0", units=(0, 1, 4)), Keep(group="b.0", units=(1, 3))))
    work = edits(g, plan)
    assert {a: v for a, v in work.attributes.items() if a.path == ""} == {
        Attribute("", "before"): 0,
        Attribute("", "after"): 2,
    }
    assert work.indices["b.0.weight"][0].tolist() == [1, 2, 5, 7, 9]
    assert 1 not in work.indices["b.0.weight"]
    assert "head.linear.bias" not in work.indices
    assert edits(g, Plan()).indices == {}
    assert edits(g, Plan()).attributes == {}


@pytest.mark.parametrize("name", ["padded", "twice", "tied", "named"])
def test_the_optimizer_of_a_cut_model_holds_only_what_is_there(name):
    g = graph(name)
    model = secateur.cut(g, random_plan(g, keep=0.5)).model
    assert all(p.is_leaf and p.grad is None for p in model.parameters())
    assert len(list(model.parameters())) == len(list(g.model.parameters()))
    assert list(model.state_dict()) == list(g.model.state_dict())


def test_restate_leaves_foreign_modules_alone():
    module = nn.LayerNorm(4)
    before = dict(vars(module))
    restate(module)
    assert vars(module) == before


def test_restate():
    linear = nn.Linear(4, 3)
    linear.weight = nn.Parameter(torch.zeros(2, 5))
    restate(linear)
    assert (linear.in_features, linear.out_features) == (5, 2)


def test_hooks_and_submodules_of_the_caller_survive():
    model = fresh("plain")
    calls = []
    model.two.register_forward_hook(lambda *_: calls.append(1))
    small = secateur.prune(model, ALL["plain"].example, budget=secateur.Budget(macs=0.5)).model
    calls.clear()
    small(ALL["plain"].example)
    assert calls == [1]


def test_pruned_prints_what_matters():
    g = graph("plain")
    text = repr(secateur.cut(g, random_plan(g, keep=0.5)))
    assert text.startswith("Pruned(before=Cost(macs=")
    assert "max_error" in text
