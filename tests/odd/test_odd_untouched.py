"""A trace, a cut or a refusal leaves nothing behind: no memory, no count, no random number drawn, no hook."""

import random

import numpy as np
import odd_all  # noqa: F401  enters its cases
import pytest
import torch
import torch.nn.functional as F
from odd_case import FLAT, filled, graph
from torch import nn

import secateur
from held import assert_unchanged, random_plan

HALF = secateur.Budget(params=0.7)


class Hidden(nn.Module):
    """A hidden layer, and what subclasses do to it."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(12, 7), nn.Linear(7, 6), nn.Linear(6, 3)

    def between(self, x):
        return x

    def forward(self, x):
        return self.head(F.relu(self.two(self.between(F.relu(self.one(x))))))


class Remembers(Hidden):
    """A list, a dictionary, a set, a counter, a tensor, a buffer, an attribute that was not there: all written to."""

    def __init__(self):
        super().__init__()
        self.seen, self.shapes, self.cache, self.kinds, self.calls, self.last = [], [1, 2], {"k": None}, set(), 0, None
        self.register_buffer("total", torch.zeros(7))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def between(self, x):
        self.seen.append(x)
        self.shapes.extend(x.shape)
        self.cache["k"] = x
        self.cache["more"] = self.calls
        self.kinds.add(x.shape[-1])
        self.calls += 1
        self.last = x
        self.late = x.shape
        self.total = self.total + x.detach().sum(0)
        self.steps += 1
        return x


def memories(model):
    held = {k: v for k, v in vars(model).items() if not k.startswith("_") and k != "training"}
    copied = {k: type(v)(v) if isinstance(v, (list, dict, set)) else v for k, v in held.items()}
    kinds = {k: [type(e) for e in v] for k, v in copied.items() if isinstance(v, (list, dict, set))}
    return copied, kinds, model.total.tolist(), model.steps.item()


@pytest.mark.parametrize("verb", ["trace", "cut", "prune"])
def test_a_forward_that_writes_to_its_model_leaves_it_as_it_was(verb):
    model = filled(Remembers())
    before, ids = memories(model), {k: id(v) for k, v in vars(model).items()}
    with assert_unchanged(model):
        if verb == "prune":
            secateur.prune(model, FLAT, budget=HALF)
        else:
            g = secateur.trace(model, FLAT)
            if verb == "cut":
                secateur.cut(g, random_plan(g, keep=0.5))
    assert memories(model) == before
    assert {k: id(v) for k, v in vars(model).items()} == ids


def test_the_cut_model_remembers_nothing_of_its_making():
    """Neither the check's inputs, nor sizes, nor fake tensors."""
    model = filled(Remembers())
    small = secateur.prune(model, FLAT, budget=HALF).model
    found, kinds, _, steps = memories(small)
    assert (found["seen"], found["cache"], found["kinds"], found["calls"], found["last"]) == (
        [],
        {"k": None},
        set(),
        0,
        None,
    )
    assert found["shapes"] == [1, 2]
    assert kinds["shapes"] == [int, int]
    assert steps == 0
    assert "late" not in found
    assert float(small(FLAT).sum()) == float(small(FLAT).sum())


class Deep(Hidden):
    """Memories of a submodule's submodule, in a plain object that is no module."""

    class Store:
        def __init__(self):
            self.items, self.count = [], 0

    def __init__(self):
        super().__init__()
        self.store = self.Store()

    def between(self, x):
        self.store.items.append(x)
        self.store.count += x.shape[1]
        return x


def test_memories_in_a_plain_object_are_put_back():
    model = filled(Deep())
    secateur.prune(model, FLAT, budget=HALF)
    assert model.store.items == []
    assert (model.store.count, type(model.store.count)) == (0, int)


class Throws(Hidden):
    """Draws from three generators, in eval mode too."""

    def between(self, x):
        noise = random.random() + np.random.rand() + torch.rand(()).to(x)  # noqa: NPY002  as people write it
        return x + 0 * noise * torch.randn_like(x) + 0 * F.dropout(x, 0.5, training=True)


@pytest.mark.parametrize("verb", ["trace", "cut", "prune", "prune with data"])
def test_no_random_number_is_used_up(verb):
    """Of torch, of Python, of NumPy; `unchanged` compares all three."""
    model = filled(Throws())
    with assert_unchanged(model):
        if verb == "prune":
            secateur.prune(model, FLAT, budget=HALF)
        elif verb == "prune with data":
            data = [(FLAT, torch.tensor([0, 1]))]
            secateur.prune(model, FLAT, budget=HALF, criterion="taylor", batches=data, loss=F.cross_entropy)
        else:
            g = secateur.trace(model, FLAT)
            if verb == "cut":
                secateur.cut(g, random_plan(g, keep=0.5))


def test_counters_of_the_models_own_count_on_after_a_cut():
    g = graph("Counting")
    small = secateur.cut(g, random_plan(g, keep=0.5)).model
    assert (small.calls, int(small.seen)) == (0, 0)
    small(FLAT)
    assert (small.calls, int(small.seen)) == (1, 2)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, StopIteration, KeyboardInterrupt])
def test_whatever_the_forward_raises_comes_through_and_leaves_nothing(error):
    class Raises(Remembers):
        def between(self, x):
            super().between(x)
            raise error("mine")

    model = filled(Raises())
    before = memories(model)
    with assert_unchanged(model), pytest.raises(error, match="mine"):
        secateur.trace(model, FLAT)
    assert memories(model) == before


def test_hooks_run_and_stay():
    """Hooks of the user's are part of the forward: same hooks, in the same order, on both models."""
    g = graph("Hooked")
    with assert_unchanged(g.model):
        small = secateur.cut(g, random_plan(g, keep=0.5)).model
    for name in ("one", "two", "head"):
        a, b = getattr(g.model, name), getattr(small, name)
        assert list(a._forward_hooks.values()) == list(b._forward_hooks.values())
        assert list(a._forward_pre_hooks.values()) == list(b._forward_pre_hooks.values())
