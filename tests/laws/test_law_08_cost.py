"""Law 8: cost is the closed form, and what an independent counter finds in the model that was really cut."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur
from counting import counted
from held import random_plan
from nets import ALL, HAND, fresh, graph, images
from secateur.cost.cost import CostModel


@pytest.mark.parametrize("name", ALL)
def test_dense_and_cut_cost_are_what_the_counter_finds(name):
    g = graph(name)
    assert CostModel(g).dense() == counted(g.model, g.example)
    pruned = secateur.cut(g, random_plan(g, seed=6))
    assert pruned.after == counted(pruned.model, g.example)
    assert pruned.before == CostModel(g).dense()


@pytest.mark.parametrize("name", HAND)
def test_every_group_alone(name):
    g = graph(name)
    cost = CostModel(g)
    for group in g.groups:
        pruned = secateur.cut(g, secateur.Plan.keeping(g, {group.name: range(0, group.size, 2)}))
        assert pruned.after == cost.at({group.name: (group.size + 1) // 2}) == counted(pruned.model, g.example)


@pytest.mark.parametrize("name", ALL)
def test_kinds_add_up(name):
    g = graph(name)
    widths = random_plan(g, seed=7).widths(g)
    assert sum(CostModel(g).macs_by_kind(widths).values()) == CostModel(g).at(widths).macs


@pytest.mark.parametrize(("a", "b"), [(8, 6), (3, 6), (8, 1), (5, 4)])
def test_a_plain_net_by_hand(a, b):
    """Two 3x3 convolutions on 8x8 maps, batch norms, a head of 10; batch 2."""
    macs = 2 * (64 * 9 * (1 * a + a * b) + b * 10)
    params = 9 * (1 * a + a * b) + 2 * (a + b) + 10 * b + 10
    buffers = 4 * 2 * (a + b) + 8 * 2  # two running statistics, and two counters of eight bytes
    found = CostModel(graph("plain")).at({"one.0": a, "two.0": b})
    assert (found.macs, found.params, found.bytes) == (macs, params, 4 * params + buffers)


@pytest.mark.parametrize(("stem", "inner", "padded"), [(6, 10, 4), (2, 10, 4), (6, 7, 1), (1, 1, 1)])
def test_a_padded_net_by_hand(stem, inner, padded):
    """The wide stream is the stem's channels and whatever is left of the four that meet padding alone; batch 2."""
    wide = stem + padded
    macs = 2 * (64 * 9 * (stem + stem * inner + inner * wide) + 10 * wide)
    params = 9 * (stem + stem * inner + inner * wide) + 2 * (stem + inner + wide) + 10 * wide + 10
    found = CostModel(graph("padded")).at({"stem.0": stem, "a.0": inner, "b.0": padded})
    assert (found.macs, found.params) == (macs, params)


@pytest.mark.parametrize(("s", "p", "last"), [(6, 8, 5), (2, 3, 1)])
def test_a_depthwise_net_by_hand(s, p, last):
    """3x3 depthwise costs 9 a channel; the doubling one 18; batch 2 on 8x8 maps."""
    per_pixel = 9 * s + 9 * s + s * p + 9 * 2 * p + 2 * p * last
    found = CostModel(graph("depthwise")).at({"stem.0": s, "point.0": p, "last.0": last})
    assert found.macs == 2 * (64 * per_pixel + last * 10)


def test_saving_of_one_unit():
    g = graph("plain")
    cost = CostModel(g)
    saved = {n: cost.dense().macs - cost.at({n: g[n].size - 1}).macs for n in ("one.0", "two.0")}
    assert cost.per_unit("macs") == saved == {"one.0": 2 * 64 * 9 * (1 + 6), "two.0": 2 * (64 * 9 * 8 + 10)}


class Attention(nn.Module):
    """Two heads; their products are multiply-accumulates as well."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(12, 24), nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind()
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize(
    ("model", "example"), [(Attention(), images(2, 5, 12)), (nn.LSTM(5, 6), images(3, 2, 5))], ids=["attention", "lstm"]
)
def test_fused_ops_are_counted(model, example):
    assert CostModel(secateur.trace(model, example)).dense().macs == counted(model, example).macs


def test_inference_mode_costs_the_same():
    model = fresh("plain")
    with torch.inference_mode():
        cost = CostModel(secateur.trace(model, ALL["plain"].example)).dense()
    assert cost == counted(model, ALL["plain"].example)
