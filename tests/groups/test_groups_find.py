"""Groups of the hand-written networks, written out: which slices live and die together."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from nets import LIBRARY, graph

R = range
BN = ("weight", "bias", "running_mean", "running_var")


def norm(path):
    return {(f"{path}.{t}", 0) for t in BN}


# group -> size and {(tensor, axis)} that it holds
EXPECTED = {
    "plain": {
        "one.0": (8, {("one.0.weight", 0), ("two.0.weight", 1)} | norm("one.1")),
        "two.0": (6, {("two.0.weight", 0), ("head.linear.weight", 1)} | norm("two.1")),
    },
    "nonorm": {
        "one": (8, {("one.weight", 0), ("one.bias", 0), ("two.weight", 1)}),
        "two": (6, {("two.weight", 0), ("two.bias", 0), ("head.linear.weight", 1)}),
    },
    "padded": {
        "stem.0": (
            6,
            {("stem.0.weight", 0), ("a.0.weight", 1), ("b.0.weight", 0), ("head.linear.weight", 1)}
            | norm("stem.1")
            | norm("b.1"),
        ),
        "a.0": (10, {("a.0.weight", 0), ("b.0.weight", 1)} | norm("a.1")),
        "b.0": (4, {("b.0.weight", 0), ("head.linear.weight", 1)} | norm("b.1")),
    },
    "concat": {
        "left.0": (5, {("left.0.weight", 0), ("join.0.weight", 1)} | norm("left.1")),
        "right.0": (7, {("right.0.weight", 0), ("join.0.weight", 1)} | norm("right.1")),
        "join.0": (6, {("join.0.weight", 0), ("head.linear.weight", 1)} | norm("join.1")),
    },
    "depthwise": {
        "stem.0": (
            6,
            {("stem.0.weight", 0), ("deep.0.weight", 0), ("point.0.weight", 1)} | norm("stem.1") | norm("deep.1"),
        ),
        "point.0": (
            8,
            {("point.0.weight", 0), ("twice.0.weight", 0), ("twice.0.bias", 0), ("last.0.weight", 1)}
            | norm("point.1")
            | norm("twice.1"),
        ),
        "last.0": (5, {("last.0.weight", 0), ("head.linear.weight", 1)} | norm("last.1")),
    },
    "grouped": {
        "stem.0": (3, {("stem.0.weight", 0), ("grouped.0.weight", 1)} | norm("stem.1")),
        "grouped.0": (2, {("grouped.0.weight", 0), ("last.0.weight", 1)} | norm("grouped.1")),
        "last.0": (6, {("last.0.weight", 0), ("head.linear.weight", 1)} | norm("last.1")),
    },
    "mlp": {
        "0": (9, {("0.weight", 0), ("0.bias", 0), ("2.weight", 1)}),
        "2": (7, {("2.weight", 0), ("4.weight", 1)}),
    },
    "flat": {
        "one.0": (6, {("one.0.weight", 0), ("two.weight", 1)} | norm("one.1")),
        "two": (5, {("two.weight", 0), ("two.bias", 0), ("hidden.weight", 1)}),
        "hidden": (11, {("hidden.weight", 0), ("hidden.bias", 0), ("out.weight", 1)}),
    },
    "twice": {
        "stem": (
            7,
            {("stem.weight", 0), ("stem.bias", 0), ("again.0.weight", 0), ("again.0.weight", 1)}
            | {("head.linear.weight", 1)}
            | norm("again.1"),
        ),
    },
    "tied": {
        "a": (
            8,
            {("a.weight", 0), ("a.bias", 0), ("b.weight", 0), ("b.weight", 1), ("b.bias", 0), ("c.bias", 0)}
            | {("d.weight", 1)},
        ),
    },
    "transposed": {
        "one.0": (4, {("one.0.weight", 0), ("up.weight", 0)} | norm("one.1")),
        "up": (9, {("up.weight", 1), ("two.weight", 0)} | norm("norm")),
        "two": (5, {("two.weight", 1), ("two.bias", 0), ("head.linear.weight", 1)}),
    },
    "squeeze": {
        "stem.0": (
            8,
            {("stem.0.weight", 0), ("down.weight", 1), ("up.weight", 0), ("up.bias", 0), ("last.0.weight", 1)}
            | norm("stem.1"),
        ),
        "down": (3, {("down.weight", 0), ("down.bias", 0), ("up.weight", 1)}),
        "last.0": (5, {("last.0.weight", 0), ("head.linear.weight", 1)} | norm("last.1")),
    },
    "raw": {"first": (9, {("first", 1), ("second", 0)})},
    "named": {
        "table": (6, {("table.weight", 1), ("image.weight", 0), ("image.bias", 0), ("hidden.weight", 1)}),
        "hidden": (10, {("hidden.weight", 0), ("hidden.bias", 0), ("out.weight", 1), ("other.weight", 1)}),
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_members(name):
    found = {x.name: (x.size, {(m.tensor, m.axis) for m in x.members}) for x in graph(name).groups}
    assert found == EXPECTED[name]


INDICES = [
    ("plain", "one.0", "two.0.weight", 1, [[i] for i in R(8)]),
    ("padded", "stem.0", "b.0.weight", 0, [[1 + i] for i in R(6)]),
    ("padded", "b.0", "b.0.weight", 0, [[0], [7], [8], [9]]),
    ("concat", "left.0", "join.0.weight", 1, [[i, 12 + i] for i in R(5)]),
    ("concat", "right.0", "join.0.weight", 1, [[5 + i] for i in R(7)]),
    ("depthwise", "point.0", "twice.0.weight", 0, [[2 * i, 2 * i + 1] for i in R(8)]),
    ("depthwise", "point.0", "last.0.weight", 1, [[2 * i, 2 * i + 1] for i in R(8)]),
    ("grouped", "stem.0", "stem.0.weight", 0, [[i, 3 + i, 6 + i, 9 + i] for i in R(3)]),
    ("grouped", "stem.0", "grouped.0.weight", 1, [[i] for i in R(3)]),
    ("grouped", "grouped.0", "last.0.weight", 1, [[i, 2 + i, 4 + i, 6 + i] for i in R(2)]),
    ("flat", "two", "hidden.weight", 1, [list(R(16 * i, 16 * i + 16)) for i in R(5)]),
]


@pytest.mark.parametrize(("name", "group", "tensor", "axis", "expected"), INDICES)
def test_positions_of_units(name, group, tensor, axis, expected):
    member = next(m for m in graph(name)[group].members if (m.tensor, m.axis) == (tensor, axis))
    assert member.index.tolist() == expected


def test_roles():
    roles = {(m.tensor, m.axis): m.role for m in graph("padded")["stem.0"].members}
    assert roles["stem.0.weight", 0] == roles["b.0.weight", 0] == "out"
    assert roles["a.0.weight", 1] == roles["head.linear.weight", 1] == "in"
    assert roles["stem.1.running_var", 0] == "affine"


def test_sources_are_the_layers_that_write():
    sources = graph("padded")["stem.0"].sources
    assert [(s.writer.path, s.writer.norm.path) for s in sources] == [("stem.0", "stem.1"), ("b.0", "b.1")]
    assert sources[1].index.tolist() == [[1 + i] for i in R(6)]
    assert graph("padded")["stem.0"].kind == "channel"
    assert graph("mlp")["0"].kind == "neuron"


def test_frozen_groups_are_named_with_reasons():
    reasons = {f.name: (f.size, f.reason) for f in graph("sliced").frozen}
    assert reasons["one.0"] == (2, "sliced at a plain number")  # before the slice
    assert reasons["one.0#2"] == (3, "sliced at a plain number")  # in it
    assert reasons["one.0#3"] == (3, "no layer reads it")  # behind
    assert reasons["head.linear"] == (10, "reaches the model's output")


COVERED = {"resnet18": 12, "mobilenet_v2": 25, "densenet121": 120, "vgg11_bn": 9, "googlenet": 57}


@pytest.mark.parametrize("name", COVERED)
def test_of_library_models_nothing_is_frozen_but_the_output(name):
    assert set(COVERED) == set(LIBRARY)
    g = graph(name)
    assert [f.reason for f in g.frozen] == ["reaches the model's output"]
    assert len(g.groups) == COVERED[name]


def test_an_autoencoder_with_one_weight_can_be_cut():
    class Auto(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(7, 12))

        def forward(self, x):
            return F.relu(F.linear(x, self.weight)) @ self.weight

    g = secateur.trace(Auto(), torch.zeros(2, 12))
    assert [x.size for x in g.groups] == [7]


def test_a_weight_that_is_computed_has_a_writer():
    """Weight standardisation, quantisation-aware layers, LoRA: the parameter is not what the op is given."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.two(F.relu(F.linear(x, self.one.weight * 0.5, self.one.bias)))

    g = secateur.trace(Scaled(), torch.randn(2, 5))
    assert all(x.sources for x in g.groups)


def test_no_group_at_all():
    g = secateur.trace(nn.Linear(3, 2), torch.zeros(1, 3))
    assert g.groups == ()
    assert str(g.coverage()).startswith("0 of 1 groups prunable (0 units); 1 frozen")


def test_units_of_a_permutation_are_a_permutation():
    """Each unit of every member holds as many positions as any other."""
    for name in EXPECTED:
        for group in graph(name).groups:
            for member in group.members:
                assert np.unique(member.index).size == member.index.size
