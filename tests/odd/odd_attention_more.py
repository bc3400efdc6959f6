"""More attention: shared keys, pooling by a learned query, over maps, in windows, and torch's own layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd_attention import DIM, HEADS, MLP, WIDTH, Attending, attending
from odd_case import SQUARE, WORDS, case
from torch import Tensor, nn

from nets import Head, conv_bn


class Shared(Attending):
    """Four query heads on `kv` key heads."""

    kv = 2

    def parts(self) -> None:
        self.heads, self.kv_heads = 4, self.kv
        self.q, self.k = nn.Linear(WIDTH, 4 * DIM), nn.Linear(WIDTH, self.kv * DIM, bias=False)
        self.v, self.o = nn.Linear(WIDTH, self.kv * DIM), nn.Linear(4 * DIM, WIDTH, bias=False)

    def projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, n, _ = x.shape
        q = self.q(x).view(b, n, self.heads, self.dim).transpose(1, 2)
        k = self.k(x).view(b, n, self.kv_heads, self.dim).transpose(1, 2)
        return q, k, self.v(x).view(b, n, self.kv_heads, self.dim).transpose(1, 2)


SHARED = {"q.weight:0": 2, "k.weight:0": 2, "v.weight:0": 2, "o.weight:1": 2}


@attending(SHARED)
class GroupedQueries(Shared):
    """Llama: keys expanded over the query heads that share them; the ratio is an attribute."""

    def parts(self) -> None:
        super().parts()
        self.share = 2

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.projected(x)
        b, h, n, d = k.shape
        k = k[:, :, None].expand(b, h, self.share, n, d).reshape(b, h * self.share, n, d)
        v = v[:, :, None].expand(b, h, self.share, n, d).reshape(b, h * self.share, n, d)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).contiguous()
        return self.o(y.reshape(b, n, -1))


@attending(SHARED)
class InterleavedQueries(Shared):
    """The ratio is worked out from the two head counts."""

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.projected(x)
        share = self.heads // self.kv_heads
        k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
        weights = torch.matmul(q, k.transpose(2, 3)).softmax(-1, dtype=torch.float64).to(q.dtype)
        return self.o(torch.matmul(weights, v).transpose(1, 2).flatten(2))


@attending(SHARED)
class FusedGroupedQueries(Shared):
    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.projected(x)
        return self.o(F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(2))


@attending({"q.weight:0": 4, "o.weight:1": 4})
class OneKey(Shared):
    """Multi-query: query heads go one by one, the key they share stays."""

    kv = 1

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.projected(x)
        return self.o(F.scaled_dot_product_attention(q, k.expand_as(q), v.expand_as(q)).transpose(1, 2).flatten(2))


@case(WORDS, 3, {"stem.weight:0": 6, "kv.weight:0": HEADS, "query:1": HEADS, "out.weight:0": 7}, reference="both")
class LearnedQuery(nn.Module):
    """Pooling: a parameter asks, words answer."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.dim = HEADS, DIM
        self.query = nn.Parameter(torch.zeros(1, HEADS, 1, DIM))
        self.stem, self.kv, self.out = nn.Linear(12, 6), nn.Linear(6, 2 * HEADS * DIM), nn.Linear(HEADS * DIM, 7)
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        b, n, _ = x.shape
        k, v = self.kv(x).view(b, n, 2, self.heads, self.dim).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(self.query.expand(b, -1, -1, -1), k, v)
        return self.head(F.gelu(self.out(y.flatten(1))))


@case(SQUARE, 3, {"stem.0.weight:0": 6, "qkv.weight:0": HEADS, "proj.weight:1": HEADS}, reference="both")
class OverMap(nn.Module):
    """lucidrains: 'b (h c) x y -> b h c (x y)' by hand, softmaxes over numbers of queries and places of keys."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.stem = HEADS, conv_bn(1, 6)
        self.qkv, self.proj = nn.Conv2d(6, 3 * HEADS * DIM, 1, bias=False), nn.Conv2d(HEADS * DIM, 6, 1)
        self.last, self.head = conv_bn(6, 5), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, _, h, w = x.shape
        q, k, v = (t.reshape(b, self.heads, -1, h * w) for t in self.qkv(x).chunk(3, dim=1))
        q, k = q.softmax(dim=-2) * 0.5, k.softmax(dim=-1)
        context = torch.einsum("b h d n, b h e n -> b h d e", k, v)
        y = torch.einsum("b h d e, b h d n -> b h e n", context, q)
        return self.head(self.last(x + self.proj(y.reshape(b, -1, h, w))))


@case(
    SQUARE,
    3,
    {"stem.weight:0": 9, "qkv.weight:0": HEADS, "proj.weight:1": HEADS, "table:1": HEADS, "up.weight:0": 7},
    reference="none",
)
class MiniSwin(nn.Module):
    """A shifted-window block: NHWC, roll, windows, relative biases, a mask for what the roll brought together."""

    def __init__(self) -> None:
        super().__init__()
        self.side, self.shift, self.heads, self.dim = 4, 2, HEADS, DIM
        self.stem, self.norm = nn.Conv2d(1, 9, 1), nn.LayerNorm(9)
        self.qkv, self.proj = nn.Linear(9, 3 * HEADS * DIM), nn.Linear(HEADS * DIM, 9)
        self.table = nn.Parameter(torch.zeros(7 * 7, HEADS))
        place = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")).flatten(1)
        away = (place[:, :, None] - place[:, None]).permute(1, 2, 0) + 3
        self.register_buffer("away", away[..., 0] * 7 + away[..., 1])
        self.norm2, self.up, self.down, self.head = nn.LayerNorm(9), nn.Linear(9, 7), nn.Linear(7, 9), nn.Linear(9, 3)

    def windows(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        s = self.side
        return x.view(b, h // s, s, w // s, s, c).transpose(2, 3).reshape(-1, s * s, c)

    def attend(self, x: Tensor) -> Tensor:
        b, h, w, _ = x.shape
        area = torch.zeros(1, h, w, 1)
        area[:, -self.shift :] += 1
        area[:, :, -self.shift :] += 2
        area = self.windows(area).squeeze(-1)
        apart = (area[:, None] - area[:, :, None]).ne(0)  # (windows, places, places)
        x = self.windows(torch.roll(x, (-self.shift, -self.shift), (1, 2)))
        q, k, v = self.qkv(x).view(len(x), -1, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4)
        weights = q @ k.transpose(-2, -1) + self.table[self.away].permute(2, 0, 1)
        weights = weights.view(b, -1, *weights.shape[1:]).masked_fill(apart[None, :, None], -100.0)
        x = self.proj((weights.softmax(-1).flatten(0, 1) @ v).transpose(1, 2).flatten(2))
        s = self.side
        x = x.view(b, h // s, w // s, s, s, -1).transpose(2, 3).reshape(b, h, w, -1)
        return torch.roll(x, (self.shift, self.shift), (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        x = x + self.attend(self.norm(x))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x.mean((1, 2)))


class Torch(nn.Module):
    """torch's own layer asserts its width in its forward: nothing in it can go, what stands beside it can."""

    first = False

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=self.first)
        self.up, self.down, self.head = nn.Linear(12, 7), nn.Linear(7, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        other = x if other is None else other
        x = x + self.attention(x, other, other, need_weights=False)[0]
        return self.head(x + self.down(F.relu(self.up(x))))


BESIDE = {"reference": "both", "frozen": {"attention": ""}}


@case(WORDS, 1, MLP, batch=1, **BESIDE)
class SelfAttention(Torch):
    """Time first."""


@case(WORDS, 1, MLP, **BESIDE)
class SelfAttentionBatchFirst(Torch):
    first = True


@case((WORDS, WORDS.flip(0)[:, :3]), 1, MLP, **BESIDE)
class CrossAttention(Torch):
    first = True


@case(
    (WORDS, WORDS.flip(0)[:, :3]),
    4,
    MLP | {"k.weight:0": 6, "v.weight:0": 7},
    reference="both",
    frozen={"attention": ""},
)
class CrossAttentionOtherWidths(nn.Module):
    """Keys and values of their own widths, which only the layer's projections read."""

    def __init__(self) -> None:
        super().__init__()
        self.k, self.v = nn.Linear(12, 6), nn.Linear(12, 7)
        self.attention = nn.MultiheadAttention(12, 3, kdim=6, vdim=7, batch_first=True)
        self.up, self.down, self.head = nn.Linear(12, 7), nn.Linear(7, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        x, weights = self.attention(x, self.k(other), self.v(other))
        return self.head(x + self.down(F.relu(self.up(x)))) + weights.mean()


@case(WORDS, 2, {"layers.0.linear1.weight:0": 8, "layers.1.linear2.weight:1": 8}, reference="both")
class TorchEncoder(nn.TransformerEncoder):
    """Two of torch's layers: their hidden widths can go, stream and heads cannot."""

    def __init__(self) -> None:
        layer = nn.TransformerEncoderLayer(12, 3, 8, batch_first=True)
        super().__init__(layer, 2, enable_nested_tensor=False)
