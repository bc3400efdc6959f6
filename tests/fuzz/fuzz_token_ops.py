"""Ops on tokens (B,T,C), vectors (B,C) and images with channels last, and heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fuzz_ops import AXIS, Op, op
from torch import nn


@op("linear")
class Linear(Op):
    takes = "TVH"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"out": pick(widths), "bias": pick([True, False]), "how": pick(["layer", "raw", "function"])}

    def __init__(self, values, out, bias=True, how="layer"):
        super().__init__()
        self.how, width = how, values[0].width
        if how == "layer":
            self.layer = nn.Linear(width, out, bias=bias)
        else:
            self.matrix = nn.Parameter(torch.zeros((width, out) if how == "raw" else (out, width)))
            self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x):
        if self.how == "layer":
            return self.layer(x)
        if self.how == "function":
            return F.linear(x, self.matrix, self.bias)
        y = x @ self.matrix
        return y if self.bias is None else y + self.bias


@op("ln")
class Ln(Op):
    takes = "TVH"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"kind": pick(["full", "no bias", "plain", "function", "hand"])}

    def __init__(self, values, kind):
        super().__init__()
        self.kind, width = kind, values[0].width
        if kind in ("function", "hand"):
            self.weight, self.width = nn.Parameter(torch.ones(width)), width
        else:
            self.norm = nn.LayerNorm(width, elementwise_affine=kind != "plain", bias=kind == "full")

    def forward(self, x):
        if self.kind == "function":
            return F.layer_norm(x, (self.width,), self.weight)
        if self.kind == "hand":
            mean = x.mean(-1, keepdim=True)
            return (x - mean) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt() * self.weight
        return self.norm(x)


@op("lnfirst")
class LnFirst(Op):
    """Layer norm over the channels of an image, by permuting there and back, or as ConvNeXt's by hand."""

    takes = "I"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"hand": pick([False, True])}

    def __init__(self, values, hand):
        super().__init__()
        self.hand, width = hand, values[0].width
        if hand:
            self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        else:
            self.norm = nn.LayerNorm(width)

    def forward(self, x):
        if not self.hand:
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        centred = x - x.mean(1, keepdim=True)
        x = centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


@op("gntokens")
class GnTokens(Op):
    takes = "T"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"groups": pick([g for g in (1, 2, 3, 4) if value.width % g == 0])}

    def __init__(self, values, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, values[0].width)

    def forward(self, x):
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


@op("mixer")
class Mixer(Op):
    """A linear layer over the tokens, as in MLP-Mixer; the tokens' number stays."""

    takes = "T"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"inner": pick([3, 4, 6])}

    def __init__(self, values, inner):
        super().__init__()
        tokens = values[0].shape[1]
        self.up, self.down = nn.Linear(tokens, inner), nn.Linear(inner, tokens)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(x.transpose(1, 2)))).transpose(1, 2)


@op("swiglu")
class SwiGlu(Op):
    takes = "TVH"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"inner": pick(widths), "packed": pick([False, True])}

    def __init__(self, values, inner, packed):
        super().__init__()
        width = values[0].width
        self.inner = inner
        self.both = nn.Linear(width, 2 * inner) if packed else None
        if not packed:
            self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        if self.both is None:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        gate, up = self.both(x).split([self.inner, self.inner], dim=-1)
        return self.down(F.silu(gate) * up)


@op("cls")
class Cls(Op):
    """A learned token in front and learned positions, as in ViT."""

    takes = "T"

    def __init__(self, values):
        super().__init__()
        _, tokens, width = values[0].shape
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, tokens + 1, width))

    def forward(self, x):
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position


@op("first")
class First(Op):
    """The first token alone."""

    takes, gives = "T", "V"

    @classmethod
    def choose(cls, pick, value, widths):
        return {}

    def __init__(self, values):
        super().__init__()

    def forward(self, x):
        return x[:, 0]


@op("embed")
class Embed(Op):
    """Reads token numbers (B,T)."""

    takes, gives = "N", "T"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"width": pick(widths)}

    def __init__(self, values, width):
        super().__init__()
        self.table = nn.Embedding(11, width)

    def forward(self, x):
        return self.table(x)


@op("head")
class Head(Op):
    """A linear layer over the mean of all places, or over each token; or the transpose of an embedding."""

    takes, gives = "ITVH", "O"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"each": pick([False, True])} if value.tag == "T" else {}

    def __init__(self, values, each=False):
        super().__init__()
        self.tag, self.each = values[0].tag, each
        self.linear = nn.Linear(values[0].width, 3)

    def forward(self, x):
        if not self.each:
            axis = AXIS[self.tag]
            rest = [d for d in range(1, x.dim()) if d != axis]
            x = x.mean(rest) if rest else x
        return self.linear(x)


@op("tied_head")
class TiedHead(Op):
    """Scores of all words by the embedding's own table; the table is set by whoever builds the network."""

    takes, gives = "T", "O"

    def __init__(self, values):
        super().__init__()
        self.linear = nn.Linear(values[0].width, 11, bias=False)

    def forward(self, x):
        return self.linear(x)
