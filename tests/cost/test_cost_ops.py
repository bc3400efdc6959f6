"""What is measured of a term: its op, its live lengths, its grid."""

import torch
from torch import nn

import secateur
from secateur.cost.cost import CostModel
from secateur.cost.ops import Op, Timed, points


def ops(net, *shape, **options):
    graph = secateur.trace(net, torch.zeros(*shape), **options)
    return CostModel(graph).timed(graph)


def test_points_are_whole_blocks_up_to_the_length():
    assert points(64) == (16, 32, 48, 64)
    assert points(256) == (32, 64, 128, 192, 256)
    assert points(100) == (16, 32, 64, 80, 112)
    assert points(7) == (16,)


def test_a_chain_of_convolutions():
    net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 48, 1), nn.Conv2d(48, 4, 1))
    first, second, last = ops(net, 2, 3, 8, 8)
    assert (first.op.kind, first.op.lengths, first.live) == ("conv", (32, 3), (0,))
    assert (first.op.conv.batch, first.op.conv.size, first.op.conv.kernel) == (2, (8, 8), (3, 3))
    assert first.op.conv.walk.padding == (1, 1)
    assert (second.op.kind, second.op.lengths, second.live) == ("pointwise", (48, 32), (0, 1))
    assert (last.op.lengths, last.live) == ((4, 48), (1,))  # outputs are never cut
    assert second.grid == ((16, 32, 48), (16, 32))
    assert second.at((16, 32)) == Op("pointwise", (16, 32), second.op.conv)


def test_depthwise_and_grouped_convolutions():
    net = nn.Sequential(
        nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 3, groups=32), nn.Conv2d(32, 32, 3, groups=4), nn.Flatten()
    )
    _, depthwise, grouped = ops(net, 1, 3, 8, 8)
    assert (depthwise.op.kind, depthwise.op.lengths, depthwise.live) == ("depthwise", (32,), (0,))
    assert (grouped.op.kind, grouped.op.lengths, grouped.live) == ("conv", (32, 32), ())
    assert grouped.scaled


def test_products():
    net = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 5))
    first, second = ops(net, 7, 6)
    assert (first.op.kind, first.op.lengths, first.live) == ("gemm", (1, 7, 6, 40), (3,))
    assert (second.op.lengths, second.live) == ((1, 7, 40, 5), (2,))


def test_heads_of_attention_are_in_proportion():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out, self.heads = nn.Linear(32, 96), nn.Linear(32, 32), 4

        def forward(self, x):
            q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, 8).permute(2, 0, 3, 1, 4).unbind(0)
            seen = ((q @ k.transpose(-2, -1)) * 8**-0.5).softmax(-1) @ v
            return self.out(seen.transpose(1, 2).reshape(*x.shape[:2], -1))

    graph = secateur.trace(Attention(), torch.zeros(1, 5, 32))
    assert [g.kind for g in graph.groups] == ["head"]
    found = CostModel(graph).timed(graph)
    products = [t for t, term in zip(found, graph.trace.terms, strict=True) if term.kind == "matmul"]
    assert len(products) == 2
    assert all(t.scaled and not t.live for t in products)


def test_alike_layers_share_a_table():
    net = nn.Sequential(*[nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(4)])
    found = ops(net, 3, 16)
    assert isinstance(found[1], Timed)
    assert found[1].key == found[2].key
    assert len({t.key for t in found}) == 3  # of the first only the outputs are cut, of the last only the inputs
