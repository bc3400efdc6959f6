"""Recurrent layers, attention to other tokens, heads in one einsum, unit length, and groups stated as attributes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fuzz_attention import attend
from fuzz_ops import Op, divisors, op
from torch import nn


@op("rnn")
class Rnn(Op):
    """One recurrent layer; the last state may join every step."""

    takes = "T"

    @classmethod
    def choose(cls, pick, value, widths):
        return {
            "cell": pick(["LSTM", "GRU", "RNN"]),
            "hidden": pick([2, 3, 4, 6]),
            "both": pick([False, False, True]),
            "bias": pick([True, False]),
            "last": pick([False, True]),
        }

    def __init__(self, values, cell, hidden, both, bias, last):
        super().__init__()
        self.both, self.last = both, last
        self.rnn = getattr(nn, cell)(values[0].width, hidden, bias=bias, batch_first=True, bidirectional=both)

    def forward(self, x):
        y, state = self.rnn(x)
        if not self.last:
            return y
        state = state[0] if isinstance(state, tuple) else state
        state = torch.cat([state[0], state[1]], -1) if self.both else state[-1]
        return y * torch.tanh(state)[:, None]


@op("cross")
class Cross(Op):
    """The first tokens ask, the second answer."""

    takes = "T"

    @classmethod
    def choose(cls, pick, value, widths):
        return {
            "heads": pick([2, 3, 1]),
            "dim": pick([2, 3]),
            "how": pick(["sdpa", "hand", "einsum"]),
            "add": pick([False, True]),
        }

    def __init__(self, values, heads, dim, how, add):
        super().__init__()
        asks, answers = values[0].width, values[-1].width
        self.num_heads, self.head_dim, self.how, self.add = heads, dim, how, add
        self.q, self.kv = nn.Linear(asks, heads * dim), nn.Linear(answers, 2 * heads * dim)
        self.out = nn.Linear(heads * dim, asks)

    def heads(self, x):
        return x.view(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def forward(self, x, other=None):
        k, v = map(self.heads, self.kv(x if other is None else other).chunk(2, -1))
        y = self.out(attend(self.heads(self.q(x)), k, v, self.how, 0.4).transpose(1, 2).flatten(2))
        return x + y if self.add else y


@op("einsum_heads")
class EinsumHeads(Op):
    """Attention whose projections hold an axis of heads, as in JAX."""

    takes = "T"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"heads": pick([2, 3, 1]), "dim": pick([2, 3])}

    def __init__(self, values, heads, dim):
        super().__init__()
        width = values[0].width
        self.qkv = nn.Parameter(torch.zeros(3, heads, width, dim))
        self.out = nn.Parameter(torch.zeros(heads, dim, width))

    def forward(self, x):
        q, k, v = (torch.einsum("btc,hcd->bhtd", x, w) for w in (self.qkv[0], self.qkv[1], self.qkv[2]))
        return torch.einsum("bhtd,hdc->btc", attend(q, k, v, "einsum", 0.4), self.out)


@op("unit")
class Unit(Op):
    """Unit length over the channels."""

    takes = "ITVH"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"hand": pick([False, True])}

    def __init__(self, values, hand):
        super().__init__()
        self.hand, self.axis = hand, values[0].axis

    def forward(self, x):
        if self.hand:
            return x / (x.pow(2).sum(self.axis, keepdim=True) + 1e-4).sqrt()
        return F.normalize(x, dim=self.axis)


@op("grouped")
class Grouped(Op):
    """A convolution of raw weights, in groups that an attribute or the input's width states."""

    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        groups = pick([*divisors(value.width), 1])
        stated = ["attribute", "width"] if groups == value.width else ["attribute"]
        return {"groups": groups, "times": pick([1, 2]), "stated": pick(stated)}

    def __init__(self, values, groups, times, stated):
        super().__init__()
        width, self.stated = values[0].width, stated
        self.groups = groups if stated == "attribute" else None
        self.weight = nn.Parameter(torch.zeros(groups * times, width // groups, 3, 3))
        self.bias = nn.Parameter(torch.zeros(groups * times))

    def forward(self, x):
        groups = x.shape[1] if self.groups is None else self.groups
        return F.conv2d(x, self.weight, self.bias, padding=1, groups=groups)
