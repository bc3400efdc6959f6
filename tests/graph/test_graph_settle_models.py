"""Whole models whose forwards state ints: each cut is exact, or what they decide is frozen."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from held import random_plan
from nets import fill, images


class Net(nn.Module):
    """Linear, something in between, linear; 6 -> 8 -> 3, on (2, 5, 6)."""

    def __init__(self, between, width=8, **attributes):
        super().__init__()
        self.a, self.b, self.between, self.width = nn.Linear(6, width), nn.Linear(width, 3), between, width
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.b(self.between(self, F.relu(self.a(x))))


X = images(2, 5, 6)


def view(net, x, *sizes):
    return x.view(2, 5, *sizes).relu().flatten(2)


FOLLOWED = {
    "bare": (lambda net, x: x.view(2, 5, net.width), {}, 8),
    "scaled": (lambda net, x: x.view(2, 5, net.quarter * 4), {"quarter": 2}, 0),
    "heads by attribute": (lambda net, x: view(net, x, net.heads, 2), {"heads": 4}, 4),
    "heads and their size": (lambda net, x: view(net, x, net.heads, net.width // net.heads), {"heads": 4}, 4),
    "heads of what there is": (lambda net, x: view(net, x, net.heads, x.size(-1) // net.heads), {"heads": 4}, 4),
    "half": (lambda net, x: view(net, x, net.width // 2, 2), {}, 4),
    "in a tuple": (lambda net, x: view(net, x, net.shape[0], net.shape[1]), {"shape": (4, 2)}, 4),
}


@pytest.mark.parametrize("case", FOLLOWED)
def test_models_whose_ints_follow(case):
    between, attributes, units = FOLLOWED[case]
    graph = secateur.trace(fill(Net(between, **attributes)), X)
    assert sum(g.size for g in graph.groups) == units
    for seed in range(4):
        assert secateur.cut(graph, random_plan(graph, seed)).check.max_error < 1e-9
    assert secateur.cut(graph, secateur.Plan()).model.width == 8


ALSO = {
    "times less than nothing": (lambda net, x: x.view(2, 5, net.width) * -net.width, {}),
    "filled with": (lambda net, x: x.view(2, 5, net.width) * torch.full((1,), net.width), {}),
    "a slice of places": (lambda net, x: x.view(2, 5, net.width)[:, : net.width - 4], {}),
    "one of the places": (lambda net, x: x.view(2, 5, net.width)[:, net.width - 5], {}),
    "a split of places": (lambda net, x: x.view(2, 5, net.width).split(net.width - 4, 1)[0], {}),
    "chunks of places": (lambda net, x: x.view(2, 5, net.width).chunk(net.width // 4, 1)[0], {}),
    "padded places": (lambda net, x: F.pad(x.view(2, 5, net.width), (0, 0, net.width, 0)), {}),
    "rolled places": (lambda net, x: x.view(2, 5, net.width).roll(net.width - 6, 1) * torch.arange(5)[:, None], {}),
    "narrowed places": (lambda net, x: x.view(2, 5, net.width).narrow(1, 0, net.width - 4), {}),
    "beyond the end": (lambda net, x: x[..., : net.limit], {"limit": 100}),
    "odd halves": (lambda net, x: view(net, x, net.odd // 2, 4)[..., :8] * net.odd, {"odd": 5}),
}


@pytest.mark.parametrize("case", ALSO)
def test_an_attribute_that_also_decides_what_no_cut_follows(case):
    """The width counts channels, and something else: it must be frozen, or every cut exact."""
    between, attributes = ALSO[case]
    graph = secateur.trace(fill(Net(between, **attributes)), X)
    assert secateur.cut(graph, secateur.Plan()).check.max_error == 0
    for seed in range(4):
        assert secateur.cut(graph, random_plan(graph, seed)).check.max_error < 1e-9


class Doubled(nn.Module):
    """Its view states an even number."""

    def __init__(self, width):
        super().__init__()
        self.a, self.b, self.half = nn.Linear(6, width), nn.Linear(width, 3), width // 2

    def forward(self, x):
        return self.b(F.relu(self.a(x)).view(2, self.half * 2))


@pytest.mark.parametrize("width", [6, 8, 10, 12, 14, 16])
def test_no_plan_is_accepted_that_the_ints_cannot_follow(width):
    graph = secateur.trace(fill(Doubled(width)), images(2, 6))
    for group in graph.groups:
        for left in range(1, group.size):
            kept = secateur.cut(graph, secateur.Plan.keeping(graph, {group.name: range(left)}), verify="off")
            assert kept.model(graph.example).isfinite().all()
