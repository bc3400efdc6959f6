"""Graphs: freezing by name, coverage, what stays alive."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import ALL, fresh, graph
from secateur.errors import PlanError, UnknownName


def names(pattern, net="padded"):
    g = secateur.trace(graph(net).model, graph(net).example, frozen=pattern)
    return {x.name for x in g.groups}, {f.name for f in g.frozen if f.reason.startswith("asked")}


@pytest.mark.parametrize(
    ("pattern", "held"),
    [
        (["a"], {"a.0"}),  # a module
        (["a.*"], {"a.0"}),  # a glob over modules
        (["a.0.weight"], {"a.0"}),  # a parameter
        ("a.0", {"a.0"}),  # a string is one pattern
        (["b"], {"stem.0", "b.0"}),  # b writes both
        (["stem"], {"stem.0"}),
        (["a", "stem.1"], {"a.0", "stem.0"}),
        (["*"], {"stem.0", "a.0", "b.0"}),
        ([], set()),
        (["head"], set()),  # reads all, writes none that could be cut
    ],
)
def test_frozen_by_name(pattern, held):
    free, chosen = names(pattern)
    assert chosen == held
    assert free == {"stem.0", "a.0", "b.0"} - held


def test_frozen_groups_stay_whole():
    model, example = fresh("padded"), ALL["padded"].example
    pruned = secateur.prune(model, example, budget=secateur.Budget(macs=0.8), frozen=["a"])
    assert pruned.model.a[0].out_channels == 10
    assert "a.0" not in pruned.plan.kept


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(UnknownName, match=r"'sten'.*Did you mean 'stem'"):
        names(["a", "sten"])


def test_look_up():
    g = graph("padded")
    assert g["a.0"].size == 10
    with pytest.raises(UnknownName, match=r"no group 'a\.1'.*Did you mean 'a\.0'"):
        g["a.1"]
    with pytest.raises(PlanError, match=r"group 'head\.linear' is frozen: reaches the model's output"):
        g["head.linear"]


def test_coverage():
    coverage = graph("padded").coverage()
    assert coverage.units == 6 + 10 + 4
    assert str(coverage).splitlines() == [
        "3 of 4 groups prunable (20 units); 1 frozen",
        "  frozen: head.linear (10): reaches the model's output",
    ]


def test_alive():
    g = graph("padded")
    alive = g.alive({"stem.0": np.array([0, 5]), "b.0": np.array([2])})
    assert alive[0]
    assert np.flatnonzero(alive[g.trace.tensors["b.0.weight"][0]]).tolist() == [1, 6, 8]
    assert g.alive({}).all()


def test_a_model_that_was_cut_can_be_traced_anew():
    g = graph("padded")
    small = secateur.cut(g, secateur.Plan.keeping(g, {"stem.0": [1, 2], "b.0": [0]})).model
    again = secateur.trace(small, g.example)
    assert {x.name: x.size for x in again.groups} == {"stem.0": 2, "a.0": 10, "b.0": 1} or (
        "b.0" in {f.name for f in again.frozen}
    )


def test_a_mask_of_minus_infinity_is_no_broken_weight():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.full((4, 4), float("-inf")).triu(1))
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.two((self.one(x)[:, None] + self.mask).exp().mean(1))

    assert [g.name for g in secateur.trace(Masked(), torch.zeros(2, 4)).groups] == ["one"]


def test_a_sum_beyond_half_precision_is_no_broken_weight():
    norm = nn.BatchNorm2d(1024)
    norm.running_var.fill_(100.0)
    net = nn.Sequential(nn.Conv2d(1, 1024, 1), norm, nn.Flatten(), nn.Linear(1024, 2)).half()
    assert [g.size for g in secateur.trace(net, torch.zeros(1, 1, 1, 1, dtype=torch.half)).groups] == [1024]
