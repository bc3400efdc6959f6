"""Ops that images, tokens and vectors share: activations, norms and scales of channels, and moves along them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fuzz_ops import Op, along, in_code, op
from torch import nn


@op("act")
class Act(Op):
    takes = "ITVH"
    kinds = ("relu", "gelu", "silu", "tanh", "sigmoid", "hardswish", "leaky_relu", "elu", "softplus")

    @classmethod
    def choose(cls, pick, value, widths):
        return {"kind": pick(cls.kinds)}

    def __init__(self, values, kind):
        super().__init__()
        self.function = getattr(F, kind) if hasattr(F, kind) else getattr(torch, kind)

    def forward(self, x):
        return self.function(x)


@op("prelu")
class PRelu(Op):
    takes = "IV"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"each": pick([False, True])}

    def __init__(self, values, each):
        super().__init__()
        self.act = nn.PReLU(values[0].width if each else 1)

    def forward(self, x):
        return self.act(x)


@op("dropout")
class Dropout(Op):
    def __init__(self, values):
        super().__init__()
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        return self.drop(x)


@op("rms")
class HandRms(Op):
    """RMS norm written by hand, as Llama's."""

    takes = "ITVH"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"style": pick(["mean", "norm", "library"]) if value.axis == len(value.shape) - 1 else "mean"}

    def __init__(self, values, style):
        super().__init__()
        width = values[0].width
        self.style, self.axis = style, values[0].axis
        if style == "library":
            self.norm = nn.RMSNorm(width)
        else:
            self.weight, self.eps = nn.Parameter(torch.ones(width)), 1e-5

    def forward(self, x):
        if self.style == "library":
            return self.norm(x)
        if self.style == "norm":
            return F.normalize(x, dim=-1) * self.weight * x.shape[-1] ** 0.5
        x = x * torch.rsqrt(x.pow(2).mean(self.axis, keepdim=True) + self.eps)
        return x * along(self.weight, x.dim(), self.axis)


@op("scale")
class Scale(Op):
    """LayerScale, or a raw bias."""

    takes = "ITVH"

    @classmethod
    def choose(cls, pick, value, widths):
        return {"kind": pick(["weight", "bias", "both"])}

    def __init__(self, values, kind):
        super().__init__()
        width = values[0].width
        self.axis = values[0].axis
        self.weight = nn.Parameter(torch.ones(width)) if kind != "bias" else None
        self.bias = nn.Parameter(torch.zeros(width)) if kind != "weight" else None

    def forward(self, x):
        x = x if self.weight is None else x * along(self.weight, x.dim(), self.axis)
        return x if self.bias is None else x + along(self.bias, x.dim(), self.axis)


@op("flip")
class Flip(Op):
    @classmethod
    def choose(cls, pick, value, widths):
        return {"channels": pick([True, False]) or value.tag == "V"}

    def __init__(self, values, channels):
        super().__init__()
        self.dims = (values[0].axis,) if channels else (3 - values[0].axis if values[0].tag == "T" else 2,)

    def forward(self, x):
        return torch.flip(x, self.dims)


@op("roll")
class Roll(Op):
    @classmethod
    def choose(cls, pick, value, widths):
        return {
            "channels": pick([True, False]) or value.tag == "V",
            "shift": pick([1, 2, -1]),
            "by": pick(["int", "list"]),
        }

    def __init__(self, values, channels, shift, by):
        super().__init__()
        dim = values[0].axis if channels else (1 if values[0].tag == "T" else 2)
        self.shift, self.dim = (shift, dim) if by == "int" else ((shift,), (dim,))

    def forward(self, x):
        return torch.roll(x, self.shift, self.dim)


@op("slice")
class Slice(Op):
    """A run of channels, by attributes or by numbers in the code."""

    @classmethod
    def choose(cls, pick, value, widths):
        if value.width < 3:
            return None
        start = pick(list(range(value.width - 1)))
        length = pick(list(range(value.width - start, 0, -1)))
        return {"start": start, "length": length, "how": pick(["attributes", "narrow", "numbers", "step", "behind"])}

    def __init__(self, values, start, length, how):
        super().__init__()
        self.how, self.axis = how, values[0].axis
        if how == "numbers":
            self.part = slice(start, start + length)
        elif how == "step":
            self.part = slice(start, None, 2)
        elif how == "behind":  # all from there, counted from the end
            self.back = values[0].width - start
        else:
            self.start, self.length = start, length

    def forward(self, x):
        if self.how == "narrow":
            return x.narrow(self.axis, self.start, self.length)
        if self.how == "behind":
            part = slice(-self.back, None)
        else:
            part = slice(self.start, self.start + self.length) if self.how == "attributes" else self.part
        return x[(slice(None),) * int(self.axis) + (part,)]


@op("pad")
class Pad(Op):
    """Zero channels before and after, as in ResNets of type A."""

    @classmethod
    def choose(cls, pick, value, widths):
        return {"before": pick([1, 0, 2]), "after": pick([1, 3, 0]), "attributes": pick([True, False])}

    def __init__(self, values, before, after, attributes):
        super().__init__()
        self.lead = (0, 0) * (len(values[0].shape) - 1 - values[0].axis)
        self.attributes = attributes
        if attributes:
            self.before, self.after = before, after
        else:
            self.amounts = in_code(before, after)

    def forward(self, x):
        before, after = (self.before, self.after) if self.attributes else self.amounts()
        return F.pad(x, (*self.lead, before, after))
