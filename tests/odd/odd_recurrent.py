"""Recurrent layers: torch's, cells in a loop, and convolutional ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd_case import SQUARE, TOKENS, WORDS, case
from torch import Tensor, nn

from nets import conv_bn, images


class Recurrent(nn.Module):
    """A linear layer to 6, a recurrent layer, a head on the last word."""

    def __init__(self, layer: nn.RNNBase, width: int = 5) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(12, 6), layer, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(F.relu(self.stem(x)))[0][:, -1])


def first(units: int) -> dict[str, int]:
    """The first layer's matrices hold the hidden units on both axes."""
    rows = {f"layer.{t}_l0:0": units for t in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    return rows | {"layer.weight_hh_l0:1": units, "stem.weight:0": 6, "layer.weight_ih_l0:1": 6, "head.weight:1": units}


@case(WORDS, 2, first(5))
class Lstm(Recurrent):
    def __init__(self) -> None:
        super().__init__(nn.LSTM(6, 5, batch_first=True))


@case(WORDS, 2, first(5))
class Gru(Recurrent):
    def __init__(self) -> None:
        super().__init__(nn.GRU(6, 5, batch_first=True))


@case(WORDS, 2, first(5))
class Elman(Recurrent):
    def __init__(self) -> None:
        super().__init__(nn.RNN(6, 5, nonlinearity="relu", batch_first=True))


@case(WORDS, 2, first(5) | {"head.weight:1": 5, "layer.weight_hh_l0_reverse:1": 5}, batch=0)
class BothWays(Recurrent):
    """One hidden_size for both directions, so that they shrink alike."""

    def __init__(self) -> None:
        super().__init__(nn.LSTM(6, 5, bidirectional=True, batch_first=True), 10)


@case(WORDS, 2, {"layer.weight_hh_l0:1": 5, "layer.weight_hh_l1:1": 5, "head.weight:1": 5, "stem.weight:0": 6})
class TwoLayers(Recurrent):
    def __init__(self) -> None:
        super().__init__(nn.GRU(6, 5, num_layers=2, batch_first=True, dropout=0.1))


@case(WORDS, 1, {"stem.weight:0": 6, "layer.weight_ih_l0:1": 6})
class Projected(Recurrent):
    """An LSTM with a projection: what stands before it can be cut in any case."""

    def __init__(self) -> None:
        super().__init__(nn.LSTM(6, 5, proj_size=4, batch_first=True), 4)


@case(WORDS.transpose(0, 1), 2, first(5), batch=1)
class TimeFirst(nn.Module):
    """Time first, states given and read: the last state goes to the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(12, 6), nn.LSTM(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        zero = x.new_zeros(1, x.size(1), self.layer.hidden_size)
        _, (h, _) = self.layer(self.stem(x), (zero, zero))
        return self.head(h[-1])


@case(TOKENS, 2, {"table.weight:1": 6, "layer.weight_hh_l0:1": 5, "head.weight:1": 5})
class LanguageModel(nn.Module):
    """Words as numbers, an LSTM, scores for every word."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer, self.head = nn.Embedding(11, 6), nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 11)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.table(x))[0])


class Loop(nn.Module):
    """A cell stepped through time, from zeros of its own hidden size."""

    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(5, 3)


CELL = {"cell.weight_hh:1": 5, "cell.weight_hh:0": 5, "cell.weight_ih:0": 5, "head.weight:1": 5}


@case(WORDS, 1, CELL)
class LstmCell(Loop):
    def __init__(self) -> None:
        super().__init__(nn.LSTMCell(12, 5))

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.size(0), self.cell.hidden_size, dtype=x.dtype)
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
        return self.head(h)


@case(WORDS, 1, CELL)
class GruCell(Loop):
    """No state given: the cell makes its own."""

    def __init__(self) -> None:
        super().__init__(nn.GRUCell(12, 5))

    def forward(self, x: Tensor) -> Tensor:
        h = None
        for word in x.unbind(1):
            h = self.cell(word, h)
        return self.head(h)


@case(images(2, 3, 1, 6, 6), 2, {"stem.0.weight:0": 4, "gates.weight:1": 9, "gates.weight:0": 5, "head.weight:1": 5})
class ConvLstm(nn.Module):
    """Video: four gates from one convolution of what is seen and what was kept."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 5
        self.stem, self.gates, self.head = conv_bn(1, 4), nn.Conv2d(9, 20, 3, padding=1), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, steps, _, height, width = x.shape
        h = c = torch.zeros(b, self.hidden, height, width, dtype=x.dtype)
        for t in range(steps):
            i, f, o, g = self.gates(torch.cat([self.stem(x[:, t]), h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.head(h.mean((2, 3)))


@case(SQUARE, 2, {"one.0.weight:0": 4, "layer.weight_ih_l0:1": 4, "layer.weight_hh_l0:1": 5, "head.weight:1": 5})
class ConvThenLstm(nn.Module):
    """Text recognition: columns of a map are the words; a channel is as many inputs as the map is high."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.layer, self.head = conv_bn(1, 4), nn.LSTM(32, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x).permute(0, 3, 1, 2).flatten(2)
        return self.head(self.layer(x)[0])
