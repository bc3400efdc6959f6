"""Nets with unusual ins and outs, containers, hooks, counters and functions of their own."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from odd_attention import Attending, attending
from odd_case import FLAT, SQUARE, WORDS, case
from odd_shapes import Lambda
from torch import Tensor, nn

from nets import Head, conv_bn


class Two(nn.Module):
    """Two hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(12, 7), nn.Linear(7, 6), nn.Linear(6, 3)

    def hidden(self, x: Tensor) -> Tensor:
        return F.relu(self.one(x))

    def last(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.two(x)))


TWO = {"one.weight:0": 7, "one.bias:0": 7, "two.weight:1": 7, "two.weight:0": 6, "head.weight:1": 6}


@case(FLAT, 2, TWO)
class Dictionary(Two):
    """Names, and a value that is absent."""

    def forward(self, x: Tensor) -> dict:
        return {"logits": self.last(self.hidden(x)), "loss": None, "steps": 3}


@case(FLAT, 1, {"two.weight:0": 6}, frozen={"one": "output"})
class HiddenStates(Two):
    """What it shows of its inside must stay."""

    def forward(self, x: Tensor) -> OrderedDict:
        h = self.hidden(x)
        return OrderedDict(out=self.last(h), hidden_states=[x, h])


@dataclass
class Answer:
    logits: Tensor
    pooled: Tensor | None = None


@case(FLAT, 2, TWO)
class DataClass(Two):
    def forward(self, x: Tensor) -> Answer:
        return Answer(self.last(self.hidden(x)))


class Pair(NamedTuple):
    logits: Tensor
    extra: tuple


@case(FLAT, 2, TWO)
class Named(Two):
    def forward(self, x: Tensor) -> Pair:
        return Pair(self.last(self.hidden(x)), (None, ("text", 1.5)))


@attending({}, 2, frozen={"qkv": ""})
class Caches(Attending):
    """Keys and values are given back for the next call, so that heads stay; stream and MLP can go."""

    def attend(self, x: Tensor) -> tuple:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)), (k, v)

    def forward(self, x: Tensor) -> tuple:
        x = self.stem(x)
        y, cache = self.attend(x)
        x = x + y
        return self.head(x + self.down(F.gelu(self.up(x)))), (cache, None)


@case(
    {"image": SQUARE, "words": WORDS, "scale": 2.0},
    3,
    {"see.0.weight:0": 6, "read.weight:0": 5, "join.weight:1": 11, "join.weight:0": 7},
)
class TwoInputs(nn.Module):
    """An image, words and a number in; two answers out."""

    def __init__(self) -> None:
        super().__init__()
        self.see, self.read, self.join = conv_bn(1, 6), nn.Linear(12, 5), nn.Linear(11, 7)
        self.kind, self.place = nn.Linear(7, 3), nn.Linear(7, 4)

    def forward(self, words: Tensor, image: Tensor, scale: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        seen, read = self.see(image).mean((2, 3)), F.relu(self.read(words)).amax(1)
        x = F.relu(self.join(torch.cat((seen, read), -1)))
        return self.kind(x) * scale, {"place": self.place(x)}


@case(SQUARE, 4, {"stages.a.0.weight:0": 4, "stages.b.0.weight:0": 5, "side.0.weight:0": 3, "side.1.weight:0": 3})
class Contained(nn.Module):
    """A dictionary of stages, a list of side branches whose outputs are all shown, summed after a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleDict({"a": conv_bn(1, 4), "b": conv_bn(4, 5)})
        self.side = nn.ModuleList((nn.Conv2d(4, 3, 1), nn.Conv2d(5, 3, 3)))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.ReLU(), Lambda(lambda x: x.mean((2, 3))), nn.Linear(3, 2)) for _ in "ab"
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        outs = []
        for (_, stage), side, head in zip(self.stages.items(), self.side, self.heads, strict=True):
            x = stage(x)
            outs.append(head(side(x)))
        return outs


@case(FLAT, 2, TWO)
class Hooked(Two):
    """Hooks that change inputs and outputs, and one that only looks."""

    def __init__(self) -> None:
        super().__init__()
        self.one.register_forward_hook(lambda module, inputs, output: output * 1.5 + 0.1)
        self.two.register_forward_pre_hook(lambda module, inputs: (inputs[0].tanh(),))
        self.head.register_forward_hook(lambda module, inputs, output: None)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.hidden(x))


@case(FLAT, 2, TWO)
class Counting(Two):
    """The forward counts its calls, in a buffer and in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen += x.shape[0]
        return self.last(self.hidden(x))


class Straight(torch.autograd.Function):
    """Signs forward, the gradient as it is backward."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() < 1)


@case(FLAT, 2, TWO)
class OwnFunction(Two):
    """A function with its own gradient, followed inside."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(Straight.apply(self.one(x)) + 0.1)


@case(FLAT, 1, {"one.weight:0": 7}, frozen={"two": "cumsum"})
class NoRule(Two):
    """A running sum over features, for which there can be no rule."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.hidden(x)).cumsum(-1))


@case(FLAT, 1, {"one.weight:0": 7}, frozen={"two": "sort"})
class Sorted(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.hidden(x)).sort(-1).values)


@case(SQUARE, 2, {"one.0.weight:0": 6, "two.0.weight:0": 5})
class LoopOverSize(nn.Module):
    """As many steps as the map is wide; a comprehension over channels' places, never over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = conv_bn(1, 6), conv_bn(6, 5), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        columns = [x[..., i] * (0.5 + i / x.shape[-1]) for i in range(x.shape[-1])]
        return self.head(self.two(torch.stack(columns, -1)))


@case(SQUARE, 1, {"two.0.weight:0": 5}, frozen={"one.0": ""})
class LoopOverChannels(LoopOverSize):
    """As many steps as there are channels: they stay (or the loop is followed), the rest can go."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        maps = [x[:, i] * (0.5 + i / 6) for i in range(x.shape[1])]
        return self.head(self.two(torch.stack(maps, 1)))


@case(FLAT, 2, TWO)
class ForwardByName(Two):
    """Modules looked up by name, called through their class, and checked for a width that is read from them."""

    def forward(self, x: Tensor) -> Tensor:
        x = getattr(self, "one").forward(x)  # noqa: B009  as people write it
        assert x.shape[-1] == self.one.out_features == self.two.weight.shape[1]
        return self.last(F.dropout(x.relu(), 0.2, self.training))
