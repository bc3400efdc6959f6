"""Verification block by block: what it finds, what it names, and what it says of itself."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import assert_unchanged, random_plan
from nets import HAND, fill, graph, images
from secateur.errors import UnknownName, VerificationError
from secateur.graph.trace import block_paths
from secateur.groups.plan import Fold, Keep, Plan
from secateur.surgery.blocks import verify_blocks


class Layer(nn.Module):
    """Normalise, widen, narrow, add."""

    def __init__(self, width, hidden):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x, scale=1.0):
        return x + scale * self.down(F.gelu(self.up(self.norm(x))))


class Stack(nn.Module):
    def __init__(self, layers=3):
        super().__init__()
        self.embed, self.layers = nn.Linear(6, 8), nn.ModuleList(Layer(8, 12) for _ in range(layers))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


X = images(2, 5, 6)


def traced(model=None):
    return secateur.trace(fill(model or Stack()), X)


def test_the_largest_modules_without_a_stack_are_the_blocks():
    assert block_paths(Stack()) == {"embed", "layers.0", "layers.1", "layers.2", "head"}
    assert block_paths(nn.Linear(2, 2)) == {""}
    assert block_paths(nn.Sequential(nn.Linear(2, 2), nn.ReLU())) == {""}
    nested = nn.Sequential(Stack(2), Stack(2))
    assert block_paths(nested) == {f"{i}.{p}" for i in (0, 1) for p in ("embed", "layers.0", "layers.1", "head")}


def test_the_trace_holds_what_each_block_takes_and_gives():
    g = traced()
    assert [b.path for b in g.trace.blocks] == ["embed", "layers.0", "layers.1", "layers.2", "head"]
    block = g.trace.blocks[1]
    ((_, axes),) = block.inputs.items()
    assert np.array_equal(g.trace.classes[axes[-1]], g.trace.classes[block.outputs[0][-1]])
    assert np.array_equal(g.trace.classes[axes[-1]], g.trace.classes[g.trace.tensors["embed.weight"][0]])


@pytest.mark.parametrize("name", HAND)
def test_good_cuts_pass(name):
    g = graph(name)
    with assert_unchanged(g.model):
        check = secateur.cut(g, random_plan(g, seed=2), verify="block").check
    assert check.max_error < 1e-9
    assert "blocks one by one" in check.reference


def test_a_stack_passes_and_says_how_many():
    g = traced()
    check = secateur.cut(g, random_plan(g, keep=0.5), verify="block").check
    assert check.reference == "the original with removed units masked, 5 blocks one by one"
    assert check.max_error < 1e-9


@pytest.mark.parametrize("path", ["embed", "layers.0", "layers.2", "head"])
def test_a_tampered_block_is_found_and_named(path):
    g = traced()
    plan = random_plan(g, keep=0.5)
    small = secateur.cut(g, plan, verify="off").model
    with torch.no_grad():
        small.get_submodule(path).get_parameter("weight" if "." not in path else "down.weight")[0, 0] += 1e-3
    with assert_unchanged(g.model, small), pytest.raises(VerificationError, match=f"block '{path}' .*relative error"):
        verify_blocks(g, plan, small)


def test_units_in_another_order_are_found():
    g = traced()
    plan = Plan.keeping(g, {"layers.1.up": [1, 4, 7]})
    small = secateur.cut(g, plan, verify="off").model
    with torch.no_grad():
        small.layers[1].down.weight.copy_(small.layers[1].down.weight.flip(1))
    with pytest.raises(VerificationError, match=r"layers\.1"):
        verify_blocks(g, plan, small)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_block_that_gives_no_number_is_refused(poison):
    g = traced()
    plan = random_plan(g, keep=0.5)
    small = secateur.cut(g, plan, verify="off").model
    small.head.bias.data[0] = poison
    with pytest.raises(VerificationError, match="head"):
        verify_blocks(g, plan, small)


def test_a_block_of_another_width_is_refused():
    g = traced()
    plan = Plan.keeping(g, {"layers.1.up": [1, 4, 7]})
    small = secateur.cut(g, plan, verify="off").model
    small.head = nn.Linear(8, 2)
    with pytest.raises(VerificationError, match="head"):
        verify_blocks(g, plan, small)


def test_what_stands_between_blocks_is_not_checked_but_is_by_a_full_one():
    class Between(Stack):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            x = self.embed(x) * self.scale
            return self.head(self.layers[1](self.layers[0](x)))

    g = traced(Between())
    plan = random_plan(g, keep=0.5)
    small = secateur.cut(g, plan, verify="off").model
    small.scale.data += 1
    assert verify_blocks(g, plan, small).max_error < 1e-9
    with pytest.raises(VerificationError):
        secateur.surgery.verify.verify(g, plan, small)


def test_blocks_that_take_keywords_and_give_several():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.o = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, *, x, other):
            return self.o(F.relu(self.q(x))), {"k": self.k(other)}

    class Uses(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.pairs = nn.Linear(6, 8), nn.Linear(8, 3), nn.ModuleList([Pair(), Pair()])

        def forward(self, x):
            x = self.a(x)
            for pair in self.pairs:
                y, held = pair(x=x, other=F.relu(x))
                x = x + y + held["k"]
            return self.b(x)

    g = traced(Uses())
    assert secateur.cut(g, random_plan(g, keep=0.5), verify="block").check.max_error < 1e-9


def test_a_block_that_runs_twice():
    class Twice(Stack):
        def forward(self, x):
            x = self.embed(x)
            return self.head(self.layers[0](self.layers[1](self.layers[0](x))))

    g = traced(Twice())
    assert [b.path for b in g.trace.blocks] == ["embed", "layers.0", "layers.1", "layers.0", "head"]
    assert secateur.cut(g, random_plan(g, keep=0.5), verify="block").check.max_error < 1e-9


def test_a_block_that_writes_into_what_it_is_given():
    class InPlace(Layer):
        def forward(self, x, scale=1.0):
            return x.add_(self.down(F.gelu(self.up(self.norm(x)))))

    model = Stack()
    model.layers[1] = InPlace(8, 12)
    g = traced(model)
    assert secateur.cut(g, random_plan(g, keep=0.5), verify="block").check.max_error < 1e-9


@pytest.mark.xfail(
    strict=True, reason="engine: a block of the cut model is given the ints that the original's parent gave"
)
def test_a_block_that_is_given_an_int_that_a_cut_changes():
    class Sized(Layer):
        def forward(self, x, width):
            return super().forward(x.view(2, 5, width))

    class Gives(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.layers, self.width = nn.Linear(6, 8), nn.ModuleList([Sized(8, 12), Sized(8, 12)]), 8
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            x = self.embed(x)
            for layer in self.layers:
                x = layer(x, self.width)
            return self.head(x)

    g = traced(Gives())
    plan = random_plan(g, keep=0.5)
    assert len(plan.kept["embed"]) == 4
    assert secateur.cut(g, plan).check.max_error < 1e-9
    assert secateur.cut(g, plan, verify="block").check.max_error < 1e-9


def test_foldings_are_refused():
    g = graph("padded")
    keep = Keep(group="stem.0", units=(0, 1, 3, 4))
    fold = Fold(group="stem.0", reader="a.0.weight", units=(2, 5), constants=((0.5,), (0.1,)))
    with assert_unchanged(g.model), pytest.raises(VerificationError, match="verify='full'"):
        secateur.cut(g, Plan(edits=(keep, fold)), verify="block")


def test_off_says_so():
    g = traced()
    check = secateur.cut(g, random_plan(g, keep=0.5), verify="off").check
    assert check.reference == "nothing: verification was off"
    assert math.isnan(check.max_error)


def test_another_word_is_refused():
    g = traced()
    with pytest.raises(UnknownName, match=r"verify 'blok'.*block"):
        secateur.cut(g, Plan(), verify="blok")


def test_prune_passes_the_word_on():
    pruned = secateur.prune(fill(Stack()), X, budget=secateur.Budget(params=0.7), verify="block")
    assert "5 blocks" in pruned.check.reference
