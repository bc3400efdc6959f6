"""Weights that are not one layer's own: functional, tied, shared, computed, normed, buffers, tables, experts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd_case import FLAT, SQUARE, TOKENS, WORDS, case
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from nets import Head, conv_bn


@case(SQUARE, 2, {"w:0": 6, "b:0": 6, "v:1": 6, "v:0": 5})
class Functional(nn.Module):
    """Parameters of the net itself, given to F.conv2d."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.zeros(6, 1, 3, 3)), nn.Parameter(torch.zeros(6))
        self.v, self.head = nn.Parameter(torch.zeros(5, 6, 3, 3)), Head(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(F.conv2d(F.relu(F.conv2d(x, self.w, self.b)), self.v, stride=2)))


@case(WORDS, 2, {"one:1": 7, "shift:0": 7, "two:0": 7, "two:1": 6})
class Conv1D(nn.Module):
    """GPT-2's: (in, out) matrices, addmm on a flat view of stated size."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.shift = nn.Parameter(torch.zeros(12, 7)), nn.Parameter(torch.zeros(7))
        self.two, self.head, self.width = nn.Parameter(torch.zeros(7, 6)), nn.Linear(6, 3), 7

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addmm(self.shift, x.view(-1, x.size(-1)), self.one).view(x.size()[:-1] + (self.width,))  # noqa: RUF005
        return self.head(F.gelu(y) @ self.two)


@case(TOKENS, 2, {"table.weight:1": 6, "up.weight:0": 7, "place.weight:1": 6})
class TiedHead(nn.Module):
    """The table of words is also the head; places have a table of their own, read by a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.place, self.head = nn.Embedding(11, 6), nn.Embedding(9, 6), nn.Linear(6, 11, bias=False)
        self.up, self.down = nn.Linear(6, 7), nn.Linear(7, 6)
        self.head.weight = self.table.weight
        self.register_buffer("places", torch.arange(9)[None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.table(x) + self.place(self.places[:, : x.size(1)])
        return self.head(x + self.down(F.relu(self.up(x))))


@case(FLAT, 1, {"encode.weight:0": 7, "encode.bias:0": 7})
class TiedTransposed(nn.Module):
    """An autoencoder that decodes with the encoder's weight, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.back = nn.Linear(12, 7), nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.relu(self.encode(x)), self.encode.weight.t(), self.back)


@case(SQUARE, 2, {"left.0.weight:0": 6, "last.weight:1": 6, "last.weight:0": 4})
class SharedByModules(nn.Module):
    """Two convolutions with one weight and norms of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last, self.head = conv_bn(1, 6), conv_bn(1, 6), nn.Conv2d(12, 4, 1), Head(4)
        self.right[0].weight = self.left[0].weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.last(torch.cat([self.left(x), self.right(x.flip(3))], 1))))


class Standardised(nn.Conv2d):
    """Each filter has mean 0 and variance 1."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (self.weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


@case(SQUARE, 3, {"a.weight:0": 6, "b.weight:1": 6, "last.weight:0": 4})
class WeightStandardised(nn.Module):
    """A filter goes whole; what a standardised layer reads can go only if filters are standardised over the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = Standardised(1, 6, 3), nn.Conv2d(6, 5, 3)
        self.last, self.head = nn.Conv2d(5, 4, 1), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.last(F.relu(self.b(F.relu(self.a(x)))))))


@case(SQUARE, 3, {"a.weight:0": 6, "b.weight:0": 5, "c.weight:0": 4}, reference="none")
class StandardisedInside(nn.Module):
    """Filters standardised over what is read: over what is kept of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = nn.Conv2d(1, 6, 3), Standardised(6, 5, 3), Standardised(5, 4, 2), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))))


class Wrapped(nn.Module):
    """A wrapped convolution between two plain ones."""

    def __init__(self, wrap) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = wrap(nn.Conv2d(1, 6, 3)), nn.Conv2d(6, 5, 3), nn.Conv2d(5, 4, 1), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))))


PLAIN = {"b.weight:0": 5, "c.weight:0": 4}


@case(SQUARE, 3, PLAIN | {"a.parametrizations.weight.original1:0": 6, "b.weight:1": 6})
class WeightNorm(Wrapped):
    """A length for each filter, so that filters can go."""

    def __init__(self) -> None:
        super().__init__(parametrizations.weight_norm)


@case(SQUARE, 2, PLAIN, frozen={"a": ""})
class SpectralNorm(Wrapped):
    """One number for the whole matrix: filters stay."""

    def __init__(self) -> None:
        super().__init__(parametrizations.spectral_norm)


@case(FLAT, 3, {"one:0": 7, "up:0": 7, "up:1": 2, "down:0": 2, "two.weight:0": 5})
class LowRankAdded(nn.Module):
    """LoRA: a weight that is a sum of a matrix and a product of two; the rank can be cut, too."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.up, self.down = (nn.Parameter(torch.zeros(*s)) for s in ((7, 12), (7, 2), (2, 12)))
        self.two, self.head = nn.Linear(7, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.linear(x, self.one + 0.5 * self.up @ self.down))
        return self.head(F.relu(self.two(x)))


@case(SQUARE, 2, {"one.0.weight:0": 6, "mean:0": 6, "gain:1": 6, "two.weight:0": 5})
class BuffersByChannel(nn.Module):
    """Constants for each channel, one of them not stored."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = conv_bn(1, 6), nn.Conv2d(6, 5, 3), Head(5)
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("gain", torch.zeros(1, 6, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = (self.one(x) - self.mean[None, :, None, None]) * self.gain
        return self.head(F.relu(self.two(x)))


@case((TOKENS, torch.tensor([2, 5])), 2, {"bag.weight:1": 6, "up.weight:0": 7})
class Bag(nn.Module):
    """The mean of the vectors of a bag of words; and a table read by F.embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.more = nn.EmbeddingBag(11, 6, mode="mean"), nn.Parameter(torch.zeros(8, 6))
        self.up, self.head = nn.Linear(6, 7), nn.Linear(7, 3)

    def forward(self, words: Tensor, kind: Tensor) -> Tensor:
        return self.head(F.relu(self.up(self.bag(words) + F.embedding(kind, self.more))))


@case(WORDS, 2, {"stem.weight:0": 6, "cls:2": 6, "places:2": 6, "up.weight:0": 7})
class ClassToken(nn.Module):
    """A learned word in front, a table of places cut to length."""

    def __init__(self) -> None:
        super().__init__()
        self.cls, self.places = nn.Parameter(torch.zeros(1, 1, 6)), nn.Parameter(torch.zeros(1, 9, 6))
        self.stem, self.up, self.head = nn.Linear(12, 6), nn.Linear(6, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls.expand(len(x), -1, -1), self.stem(x)], 1)
        x = x + self.places[:, : x.shape[1]]
        return self.head(F.relu(self.up(x.mean(1) + x[:, 0])))


@case(WORDS, 5, {"stem.weight:0": 6, "experts.0.0.weight:0": 5, "experts.1.2.weight:1": 5, "experts.2.0.weight:0": 5})
class Experts(nn.Module):
    """Three MLPs weighed by a softmax, the weakest of each word left out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.head = nn.Linear(12, 6), nn.Linear(6, 3), nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 6)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        best, chosen = self.gate(x).softmax(-1).topk(2)
        weights = torch.zeros(*x.shape[:-1], 3, dtype=x.dtype).scatter(-1, chosen, best)
        return self.head(sum(weights[..., i, None] * expert(x) for i, expert in enumerate(self.experts)))


@case(WORDS, 2, {"stem.weight:0": 6, "up:1": 6, "up:2": 5, "down:1": 5, "down:2": 6})
class BatchedExperts(nn.Module):
    """All experts in one tensor: their hidden units are cut alike."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.head = nn.Linear(12, 6), nn.Linear(6, 3), nn.Linear(6, 3)
        self.up, self.down = nn.Parameter(torch.zeros(3, 6, 5)), nn.Parameter(torch.zeros(3, 5, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = torch.einsum("btd,edh->bteh", x, self.up)
        y = torch.einsum("bteh,ehd->bted", F.relu(y), self.down)
        return self.head(x + (y * self.gate(x).softmax(-1)[..., None]).sum(2))


@case(FLAT, 2, {"weights.0:0": 7, "weights.1:1": 7, "weights.1:0": 5})
class Listed(nn.Module):
    """Weights in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.zeros(*s) for s in ((7, 12), (5, 7), (3, 5)))

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = F.linear(torch.tanh(x), weight)
        return x
