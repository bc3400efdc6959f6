"""Closed forms by hand, at any width: a cut leaves what the formula says, where torch's counter sees it or not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import secateur
from counting import counted
from nets import images
from secateur.cost.cost import CostModel

B = 2


class Convolutions(nn.Module):
    """Plain, in two groups, transposed in two groups, depthwise, transposed; 10 x 10 maps, 21 x 21 after the last."""

    def __init__(self):
        super().__init__()
        self.plain = nn.Conv2d(3, 8, 3, padding=1)
        self.groups = nn.Conv2d(8, 12, 3, padding=1, groups=2)
        self.back = nn.ConvTranspose2d(12, 8, 1, groups=2)
        self.depth = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2)

    def forward(self, x):
        return self.up(self.depth(self.back(self.groups(self.plain(x).relu()).relu()).relu()).relu())


@pytest.mark.parametrize(("a", "b", "c"), [(8, 12, 8), (4, 6, 6), (2, 2, 2)])
def test_convolutions(a, b, c):
    """A group of a grouped convolution counts its units by the group of channels, so widths are of both groups."""
    net, x = Convolutions(), images(B, 3, 10, 10)
    graph = secateur.trace(net, x)
    widths = {g.name: g.size for g in graph.groups}
    assert {"plain", "groups", "back"} <= set(widths)
    each = {"plain": a * widths["plain"] // 8, "groups": b * widths["groups"] // 12, "back": c * widths["back"] // 8}
    macs = B * 100 * (9 * 3 * a + 9 * (a // 2) * b + 1 * b * (c // 2) + 25 * c + 9 * c * 4)
    assert CostModel(graph).at(each).macs == macs
    small = secateur.cut(graph, secateur.Plan.keeping(graph, {n: range(w) for n, w in each.items()})).model
    assert counted(small, x).macs == macs


class Attention(nn.Module):
    """Four heads of width 3 whose keys two share, over windows that come after the heads: (B, H, W, L, D)."""

    def __init__(self, windows=False):
        super().__init__()
        self.windows = windows
        self.q, self.kv, self.out = nn.Linear(6, 12), nn.Linear(6, 24), nn.Linear(12, 6)

    def forward(self, x):
        q = self.q(x).unflatten(-1, (-1, 3))
        k, v = self.kv(x).unflatten(-1, (2, -1, 3)).unbind(-3)
        if self.windows:  # 6 places in 2 windows of 3
            q, k, v = (t.unflatten(1, (2, 3)).permute(0, 3, 1, 2, 4) for t in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v).permute(0, 2, 3, 1, 4).flatten(1, 2)
        else:
            y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)
        return self.out(y.flatten(2))


@pytest.mark.parametrize("heads", [4, 3, 1])
@pytest.mark.parametrize("windows", [False, True])
def test_attention_counts_the_heads_that_are_left(windows, heads):
    """Also where windows come between heads and places, as in Hiera."""
    net, x = Attention(windows), images(B, 6, 6)
    graph = secateur.trace(net, x)
    (group,) = graph.groups
    assert group.size == 4
    pairs = 2 * 3 * 3 if windows else 6 * 6
    macs = B * (6 * 6 * heads * 3 * (1 + 2 + 1) + heads * pairs * (3 + 3))
    small = secateur.cut(graph, secateur.Plan.keeping(graph, {group.name: range(heads)})).model
    assert CostModel(graph).at({group.name: heads}).macs == macs
    assert CostModel(secateur.trace(small, x)).dense().macs == macs


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("width", [6, 4, 1])
def test_recurrent_layers(kind, gates, width):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = kind(5, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    graph = secateur.trace(Net(), images(B, 7, 5))
    (group,) = graph.groups
    macs = B * 7 * (gates * width * (5 + width) + width * 3)
    assert CostModel(graph).at({group.name: width}).macs == macs
    small = secateur.cut(graph, secateur.Plan.keeping(graph, {group.name: range(width)})).model
    assert CostModel(secateur.trace(small, graph.example)).dense().macs == macs


@pytest.mark.parametrize("width", [8, 3])
def test_an_embedding_multiplies_nothing_and_a_tied_head_does(width):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens))

    graph = secateur.trace(Tied(), torch.zeros(B, 7, dtype=torch.long))
    (group,) = graph.groups
    cost = CostModel(graph).at({group.name: width})
    assert (cost.macs, cost.params) == (B * 7 * width * 20, 20 * width)


@pytest.mark.parametrize(
    ("model", "example"),
    [(Attention(), images(B, 6, 6)), (nn.LSTM(5, 6), images(3, B, 5))],
    ids=["attention", "lstm"],
)
def test_what_torchs_counter_misses_on_a_cpu_is_counted_here(model, example):
    """If this fails, torch has learnt it, and docs/cost.md should say so."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(example)
    assert counter.get_total_flops() // 2 < CostModel(secateur.trace(model, example)).dense().macs
    assert CostModel(secateur.trace(model, example)).dense().macs == counted(model, example).macs
