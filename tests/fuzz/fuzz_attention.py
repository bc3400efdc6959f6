"""Attention in the ways it is written: q, k, v apart or fused, by hand or by torch, grouped keys, torch's module."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fuzz_ops import Op, divisors, op
from torch import nn


@op("attention")
class Attention(Op):
    """Self-attention over tokens; q, k and v have layers of their own."""

    takes = "T"

    @classmethod
    def choose(cls, pick, value, widths):
        heads = pick([2, 4, 3, 1])
        return {
            "heads": heads,
            "kv": pick([heads, *divisors(heads, one=True)]),
            "dim": pick([2, 3, 4]),
            "view": pick(["both", "heads", "dim", "last"]),
            "how": pick(["sdpa", "scaled", "hand", "einsum", "causal"]),
            "join": pick(["flatten", "minus", "product", "inner"]),
            "norm": pick(["", "", "rms"]),
            "bias": pick([True, False]),
        }

    def __init__(self, values, heads, kv, dim, view, how, join, norm, bias):
        super().__init__()
        width = values[0].width
        self.num_heads, self.kv_heads, self.head_dim = heads, kv, dim
        self.inner, self.repeats = heads * dim, heads // kv
        self.style, self.how, self.join, self.scale = view, how, join, 0.4
        self.q = nn.Linear(width, heads * dim, bias=bias)
        self.k, self.v = (nn.Linear(width, kv * dim, bias=bias) for _ in "kv")
        self.norms = nn.ModuleList([nn.RMSNorm(dim), nn.RMSNorm(dim)]) if norm else None
        self.out = nn.Linear(heads * dim, width, bias=bias)

    def heads(self, x, number):
        b, t, c = x.shape
        if self.style == "both":
            return x.view(b, t, number, self.head_dim).transpose(1, 2)
        if self.style == "heads":
            return x.reshape(b, t, number, -1).permute(0, 2, 1, 3)
        if self.style == "dim":
            return x.view(b, t, -1, self.head_dim).transpose(1, 2)
        return x.view(b, t, number, c // number).transpose(1, 2)

    def forward(self, x):
        b, t, _ = x.shape
        q = self.heads(self.q(x), self.num_heads)
        k, v = (self.heads(layer(x), self.kv_heads) for layer in (self.k, self.v))
        if self.norms is not None:
            q, k = self.norms[0](q), self.norms[1](k)
        if self.repeats > 1:
            k, v = self.repeat(k), self.repeat(v)
        y = attend(q, k, v, self.how, self.scale).transpose(1, 2)
        if self.join == "flatten":
            return self.out(y.flatten(2))
        size = {"minus": -1, "product": self.num_heads * self.head_dim, "inner": self.inner}[self.join]
        return self.out(y.reshape(b, t, size))

    def repeat(self, x):
        if self.join == "flatten":
            return x.repeat_interleave(self.repeats, 1)
        b, h, t, d = x.shape
        return x[:, :, None].expand(b, h, self.repeats, t, d).reshape(b, h * self.repeats, t, d)


def attend(q, k, v, how, scale):
    """(B,H,T,D) each; the scale is a constant, except torch's own default that is of D."""
    if how == "sdpa":
        return F.scaled_dot_product_attention(q, k, v)
    if how == "causal":
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    if how == "scaled":
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    if how == "einsum":
        return torch.einsum("bhij,bhjd->bhid", (torch.einsum("bhid,bhjd->bhij", q, k) * scale).softmax(-1), v)
    return ((q * scale) @ k.transpose(-2, -1)).softmax(-1) @ v


@op("fused")
class Fused(Op):
    """One layer gives q, k and v."""

    takes = "T"

    @classmethod
    def choose(cls, pick, value, widths):
        return {
            "heads": pick([2, 3, 1]),
            "dim": pick([2, 4, 3]),
            "cut": pick(["unbind", "index", "chunk", "split", "last", "minus"]),
            "how": pick(["sdpa", "scaled", "hand"]),
            "bias": pick([True, False]),
        }

    def __init__(self, values, heads, dim, cut, how, bias):
        super().__init__()
        width = values[0].width
        self.num_heads, self.head_dim, self.inner = heads, dim, heads * dim
        self.cut, self.how, self.scale = cut, how, 0.4
        self.qkv, self.out = nn.Linear(width, 3 * self.inner, bias=bias), nn.Linear(self.inner, width)

    def three(self, x):
        b, t, _ = x.shape
        y = self.qkv(x)
        if self.cut in ("chunk", "split"):
            parts = y.chunk(3, -1) if self.cut == "chunk" else y.split(self.inner, dim=2)
            return [p.view(b, t, self.num_heads, self.head_dim).transpose(1, 2) for p in parts]
        if self.cut == "last":  # each head holds its own q, k, v
            return y.view(b, t, self.num_heads, 3 * self.head_dim).transpose(1, 2).chunk(3, -1)
        size = -1 if self.cut == "minus" else self.head_dim
        y = y.reshape(b, t, 3, self.num_heads, size).permute(2, 0, 3, 1, 4)
        return [y[0], y[1], y[2]] if self.cut == "index" else y.unbind(0)

    def forward(self, x):
        q, k, v = self.three(x)
        y = attend(q, k, v, self.how, self.scale).transpose(1, 2)
        return self.out(y.reshape(*x.shape[:2], -1 if self.cut == "minus" else self.inner))


@op("mha")
class Mha(Op):
    """torch's own module."""

    takes = "T"

    @classmethod
    def choose(cls, pick, value, widths):
        heads = [h for h in (1, 2, 3, 4) if value.width % h == 0]
        return {"heads": pick(heads[::-1]), "weights": pick([False, True])}

    def __init__(self, values, heads, weights):
        super().__init__()
        self.attention, self.weights = nn.MultiheadAttention(values[0].width, heads, batch_first=True), weights

    def forward(self, x):
        return self.attention(x, x, x, need_weights=self.weights)[0]


@op("imagemap")
class ImageAttention(Op):
    """Attention of an image to itself, with 1x1 convolutions and one head, as in non-local nets."""

    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"inner": pick([2, 3, 4])}

    def __init__(self, values, inner):
        super().__init__()
        width = values[0].width
        self.q, self.k, self.v = nn.Conv2d(width, inner, 1), nn.Conv2d(width, inner, 1), nn.Conv2d(width, inner, 1)
        self.out = nn.Conv2d(inner, width, 1)

    def forward(self, x):
        b, _, h, w = x.shape
        q, k, v = (layer(x).flatten(2) for layer in (self.q, self.k, self.v))
        attention = torch.bmm(q.transpose(1, 2), k).softmax(-1)
        y = torch.bmm(v, attention.transpose(1, 2))
        return x + self.out(y.view(b, y.shape[1], h, w))
