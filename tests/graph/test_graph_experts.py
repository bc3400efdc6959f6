"""Ints that state how many experts there are: those that are read, and those that are not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import fill, images
from secateur.graph.experts import Agreed, stated
from secateur.graph.provenance import Attribute
from secateur.graph.record import EXPERT, STACKED, WEIGHED, Owner, is_expert

WORDS = images(6, 4)


class Chosen(nn.Module):
    """One layer of experts: its ints are never read, for their numbers alone choose."""

    def __init__(self, count):
        super().__init__()
        self.num_experts = self.n_shared_experts = self.num_experts_per_tok = self.width = count
        self.gate, self.weight = nn.Linear(4, count), nn.Parameter(torch.zeros(count, 4, 4))

    def forward(self, x):
        share, chosen = self.gate(x).softmax(-1).max(-1)
        return x + torch.bmm(x[:, None], self.weight[chosen]).squeeze(1) * share[:, None]


class Model(nn.Module):
    def __init__(self, *counts):
        super().__init__()
        self.config = SimpleNamespace(num_local_experts=counts[0], hidden_size=4)
        self.num_experts = counts[0]
        self.layers = nn.ModuleList(map(Chosen, counts))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def ints(model):
    return (
        model.config.num_local_experts,
        model.num_experts,
        *[(m.num_experts, m.n_shared_experts, m.num_experts_per_tok, m.width) for m in model.layers],
    )


def cut(model, *kept):
    g = secateur.trace(fill(model), WORDS, kinds="expert")
    plan = secateur.Plan.keeping(g, {x.name: units for x, units in zip(g.groups, kept, strict=True)})
    return ints(secateur.cut(g, plan).model)


def test_what_is_named_so_follows_where_all_layers_agree():
    assert cut(Model(5, 5), [0, 1, 4], [1, 2, 3]) == (3, 3, (3, 5, 5, 5), (3, 5, 5, 5))


def test_what_layers_do_not_agree_on_stays():
    assert cut(Model(5, 5), [0, 1, 4], [1, 2]) == (5, 5, (3, 5, 5, 5), (2, 5, 5, 5))
    assert cut(Model(5, 4), [0, 1, 4], [0, 1, 3]) == (5, 5, (3, 5, 5, 5), (3, 4, 4, 4))


def test_nothing_is_touched_where_nothing_goes():
    assert cut(Model(5, 5), range(5), range(5)) == (5, 5, (5, 5, 5, 5), (5, 5, 5, 5))


@pytest.mark.parametrize(
    ("name", "counts"),
    [("num_experts", True), ("config.n_routed_experts", True), ("moe_num_experts", True), ("num_local_experts", True)]
    + [(n, False) for n in ("num_experts_per_tok", "n_shared_experts", "experts", "config.num_experts.more")],
)
def test_names(name, counts):
    axis, roles = np.arange(1, 4), np.array([0, EXPERT, EXPERT, EXPERT], dtype=np.int16)
    attribute = Attribute("mlp", name)
    found = stated({attribute: 3}, {"mlp.weight": (axis,)}, np.arange(4), roles, {})
    assert found == ({attribute: Agreed(axis)} if counts else {})
    assert stated({attribute: 2}, {"mlp.weight": (axis,)}, np.arange(4), roles, {}) == {}
    assert stated({attribute: 3}, {"other.weight": (axis,)}, np.arange(4), roles, {}) == {}


def test_a_config_stays_where_experts_are_counted_in_another_way_too():
    axis, roles = np.arange(1, 5), np.array([0, *[EXPERT] * 4], dtype=np.int16)
    owners = {Attribute("mlp", "num_group"): Owner(axis[:2])}
    attributes = {Attribute("mlp", "num_experts"): 4, Attribute("", "config.num_experts"): 4}
    found = stated(attributes, {"mlp.weight": (axis,)}, np.arange(5), roles, owners)
    assert found == {Attribute("mlp", "num_experts"): Agreed(axis)}
    assert len(stated(attributes, {"mlp.weight": (axis,)}, np.arange(5), roles, {})) == 2


def test_who_is_an_expert():
    assert [is_expert(b) for b in (0, EXPERT, STACKED, WEIGHED, STACKED | WEIGHED)] == [False, True, False, False, True]
