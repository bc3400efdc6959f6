"""Ops that take the channels apart, reduce them, or join several values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fuzz_ops import Op, in_code, op
from torch import nn


class Pieces(Op):
    """Several pieces of the channels."""

    def __init__(self, values):
        super().__init__()
        self.axis = values[0].axis


@op("chunk")
class Chunk(Pieces):
    @classmethod
    def choose(cls, pick, value, widths):
        parts = [n for n in (2, 3) if value.width % n == 0]
        return {"parts": pick(parts), "attribute": pick([True, False])} if parts else None

    def __init__(self, values, parts, attribute):
        super().__init__(values)
        self.parts, self.number = (parts, None) if attribute else (None, in_code(parts))

    def forward(self, x):
        return x.chunk(self.number()[0] if self.parts is None else self.parts, self.axis)


@op("split")
class Split(Pieces):
    @classmethod
    def choose(cls, pick, value, widths):
        if value.width < 3:
            return None
        first = pick(list(range(1, value.width)))
        return {"first": first, "how": pick(["ints", "list", "tuple", "equal", "numbers"])}

    def __init__(self, values, first, how):
        super().__init__(values)
        self.how, rest = how, values[0].width - first
        if how == "ints":
            self.first, self.rest = first, rest
        elif how == "equal":
            self.size = max(first, rest)
        elif how == "numbers":
            self.numbers = in_code(first, rest)
        else:
            self.sizes = [first, rest] if how == "list" else (first, rest)

    def forward(self, x):
        if self.how == "ints":
            return torch.split(x, [self.first, self.rest], dim=self.axis)
        if self.how == "numbers":
            return x.split(self.numbers(), self.axis)
        return x.split(self.size if self.how == "equal" else self.sizes, self.axis)


@op("glu")
class Glu(Op):
    @classmethod
    def choose(cls, pick, value, widths):
        return {"hand": pick([False, True])} if value.width % 2 == 0 else None

    def __init__(self, values, hand):
        super().__init__()
        self.hand, self.axis = hand, values[0].axis

    def forward(self, x):
        if not self.hand:
            return F.glu(x, self.axis)
        a, b = x.chunk(2, dim=self.axis)
        return F.silu(a) * b


@op("softmax")
class Softmax(Op):
    """Over the channels."""

    def __init__(self, values):
        super().__init__()
        self.axis = values[0].axis

    def forward(self, x):
        return x.softmax(self.axis)


@op("mean")
class MeanGate(Op):
    """The channels' mean, maximum or spread, added to or gating all of them, or alone as one channel."""

    @classmethod
    def choose(cls, pick, value, widths):
        return {"what": pick(["mean", "amax", "sum", "var"]), "use": pick(["gate", "add", "alone"])}

    def __init__(self, values, what, use):
        super().__init__()
        self.what, self.use, self.axis = what, use, values[0].axis

    def forward(self, x):
        options = {"correction": 0} if self.what == "var" else {}
        y = getattr(x, self.what)(dim=self.axis, keepdim=True, **options)
        return y if self.use == "alone" else x + y if self.use == "add" else x * torch.sigmoid(y)


class Join(Op):
    """Reads several values of one shape, channels apart."""

    def __init__(self, values):
        super().__init__()
        self.axis = values[0].axis


@op("add")
class Add(Join):
    def forward(self, *xs):
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        return total


@op("mul")
class Mul(Join):
    def forward(self, *xs):
        total = xs[0]
        for x in xs[1:]:
            total = total * torch.tanh(x)
        return total


@op("cat")
class Cat(Join):
    def forward(self, *xs):
        return torch.cat(xs, self.axis)


@op("stack")
class Stack(Join):
    """Stacked and summed with learned weights, as in BiFPN."""

    def __init__(self, values):
        super().__init__(values)
        self.mix = nn.Parameter(torch.ones(len(values)))

    def forward(self, *xs):
        return (torch.stack(xs, -1) * self.mix.softmax(0)).sum(-1)
