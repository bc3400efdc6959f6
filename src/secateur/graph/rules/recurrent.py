"""Recurrent layers, seen whole: the gates of one hidden unit live or die together, in every layer and direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..labels import Axis, frozen_axis
from ..record import IN, OUT
from ..tracer import Tracer
from .base import function

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def _layers(weights: Any, biases: bool, directions: int) -> Iterator[list[tuple[int, list[Tensor]]]]:
    """For each layer its directions: place in the flat list, and (w_ih, w_hh[, b_ih, b_hh])."""
    each = 4 if biases else 2
    cells = [(i, list(weights[i : i + each])) for i in range(0, len(weights), each)]
    yield from (cells[i : i + directions] for i in range(0, len(cells), directions))


def _recurrent(name: str) -> Callable[..., Any]:
    def rule(tracer: Tracer, x: Tensor, *args: Any) -> Any:
        # (hx, weights, biases, layers, dropout, train, bidirectional, batch_first), or packed: batch_sizes comes first
        # and batch_first is missing.
        packed = int(isinstance(args[1], Tensor) or isinstance(args[2], (tuple, list)))
        hx, weights, biases, _, _, _, bidirectional = args[packed : packed + 7]
        states = list(hx) if isinstance(hx, (tuple, list)) else [hx]
        if weights[1].shape[1] * _GATES[name] != weights[1].shape[0]:
            return _projected(tracer, (x, states, list(weights)), 2 if bidirectional else 1, 2 + packed)
        axis = tracer.axes(x)[-1]
        masks: list[tuple[tuple[int, ...], int, Axis]] = [((0,), x.dim() - 1, axis)]
        hidden = tracer.axes(states[0])[-1]
        steps = x.numel() // int(x.shape[-1])
        for cells in _layers(weights, biases, 2 if bidirectional else 1):
            for at, cell in cells:
                hidden = tracer.unify(tracer.axes(cell[1])[1], hidden)
                masks += [((2 + packed, at), 1, axis), ((2 + packed, at + 1), 1, tracer.axes(cell[1])[1])]
                _cell(tracer, cell, axis, _GATES[name], steps)
            axis = np.concatenate([tracer.axes(cell[1])[1] for _, cell in cells])
        for state in states[1:]:
            tracer.unify(hidden, tracer.axes(state)[-1])
        output = x.new_empty((*map(int, x.shape[:-1]), axis.size))
        last = [torch.empty_like(state) for state in states]
        tracer.saw(name, [x, *states, *weights], [output, *last])
        tracer.set(output, (*tracer.axes(x)[:-1], axis))
        for tensor in last:
            tracer.set(tensor, (*(frozen_axis(n) for n in tensor.shape[:-1]), hidden))
        tracer.whole(name, masks)
        return (output, *last)

    return rule


def _projected(tracer: Tracer, given: tuple[Tensor, list[Tensor], list[Tensor]], directions: int, place: int) -> Any:
    """An LSTM whose hidden state is projected to fewer numbers: only what it reads from outside is cut."""
    x, states, weights = given
    matrices = [w for w in weights if w.dim() == 2]  # (w_ih, w_hh, w_hr) of each layer and direction
    cell = len(weights) * 3 // len(matrices)
    *rest, axis = tracer.axes(x)
    masks: list[tuple[tuple[int, ...], int, Axis]] = [((0,), x.dim() - 1, axis)]
    for at in range(0, directions * cell, cell):
        read = tracer.axes(weights[at])[1]
        axis = tracer.unify(axis, read)
        tracer.mark(read, IN)
        masks.append(((place, at), 1, read))
        rest.append(tracer.axes(weights[at])[0])
    first = range(0, directions * cell, cell)
    others = [w for i, w in enumerate(weights) if i not in first]
    for own in (*rest, *(a for t in (*states, *others) for a in tracer.axes(t))):
        tracer.freeze(own, "a recurrent layer with a projection reads it")
    steps = x.numel() // int(x.shape[-1])
    for weight in matrices:
        tracer.term("linear", steps * int(weight.shape[0]), tracer.axes(weight)[1])
    output = x.new_empty((*map(int, x.shape[:-1]), int(weights[1].shape[1]) * directions))
    tracer.saw("lstm", [x, *states, *weights], [output])
    tracer.whole("lstm", masks)
    return (output, *(torch.empty_like(state) for state in states))


def _cell(tracer: Tracer, cell: list[Tensor], read: Axis, gates: int, steps: int) -> None:
    """gates * H rows; unit j holds row j of every gate."""
    (ih_out, ih_in), (hh_out, hh_in) = tracer.axes(cell[0]), tracer.axes(cell[1])
    rows = np.tile(hh_in, gates)
    for axis in (ih_out, hh_out, *(tracer.axes(bias)[0] for bias in cell[2:])):
        tracer.unify(rows, axis)
    tracer.unify(read, ih_in)
    for axis, role in ((ih_out, OUT), (hh_out, OUT), (ih_in, IN), (hh_in, IN)):
        tracer.mark(axis, role)
    for weight, bias in zip(cell[:2], cell[2:] or (None, None), strict=True):
        written = tracer.axes(weight)[0]
        tracer.writer(weight, "linear", weight, written, bias, axis=written)
        tracer.term("linear", steps, *tracer.axes(weight))


for _name in _GATES:
    function(_name)(_recurrent(_name))
