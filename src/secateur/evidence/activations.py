"""Activations: sums over all examples and positions of what layers read of each unit, never the activations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..graph.record import Contraction
from ..groups.graph import Graph
from .base import Collector, Fields, Sampling, collector
from .pooled import Maps, Pooling
from .readers import Read, Reader

CHUNK = 2**19  # values that are looked at at a time, so that they stay in the processor's cache
SUMS = ("zeros", "sum", "absolute", "square", "energy")


@collector("activations")
class Activations(Collector):
    """Of each group and each layer that reads it, in the order they run, (readers, units):

    sums over examples and positions of `sum` x, `absolute` |x|, `square` x^2; `energy`, the sum over
    examples of (mean over positions of |x|)^2; the `lowest` and `highest` x; `weighted`, the sum over the layer's
    weights w that meet the unit of |w| * sqrt(sum x^2). (readers,): `count` of values of a unit seen; `new`, whether
    the layer reads another tensor than the layer that read before it; `weighs`, whether its weights are a parameter;
    `told`, whether examples could be told apart, without which `energy` is none.

    `zeros` [x = 0], their lowest x, `floor`, and the number of values looked at, `places` (readers,), are of the maps
    in front of pooling where the layer reads pooled ones; `whole` (readers,) whether that is more than one value of a
    unit for each example, or of maps that were found. All else is of what is read.
    """

    reads = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._held: dict[int, tuple[Reader, Seen, bool]] = {}  # by number of the reader
        self._last: tuple[Tensor, int, Seen] | None = None  # and the tensor's version when it was read
        self._pooling = Pooling()
        self._mixed: set[int] = set()

    def watching(self) -> AbstractContextManager[Any]:
        """Pooling."""
        return self._pooling

    def read(self, read: Read) -> None:
        """One more."""
        if not read.x.is_floating_point() or not read.x.numel():
            return
        new = self._last is None or not _same(read.x, *self._last[:2])
        if self._last is None or new:
            self._last = read.x, read.x._version, Seen.of(read, self._pooling.behind(read.x))
        seen, number = self._last[2], read.reader.contraction.number
        if number in self._held:
            _, before, was_new = self._held[number]
            seen, new = seen.plus(before), new or was_new
        self._held[number] = read.reader, seen, new
        self._mixed |= {number} if read.mixed is not None else set()

    def batch(self, *_: object) -> None:
        """Let go of what was read last, and of what was pooled."""
        self._last = None
        self._pooling.forget()

    def values(self) -> dict[str, Fields]:
        """By group."""
        found: dict[str, list[Fields]] = {}
        for number, (reader, seen, new) in sorted(self._held.items()):
            facts = {"new": torch.tensor(new), "told": torch.tensor(number not in self._mixed)}
            held = by_position(self.graph, reader.contraction)
            weights = None if held is None else held.abs().sum(1).to("cpu", torch.float64)
            for name in reader.groups:
                fields = seen.by_unit(name, reader, weights)
                found.setdefault(name, []).append(fields | facts)
        return {name: {f: torch.stack([e[f] for e in each]) for f in each[0]} for name, each in found.items()}


@dataclass(frozen=True, eq=False)
class Seen:
    """Sums of what one layer read, by position along the axis: (5, positions), (positions,) and how many rows."""

    sums: Tensor
    lowest: Tensor
    highest: Tensor
    rows: int
    floor: Tensor  # (positions,) the lowest where zeros are counted
    places: float  # how many values zeros are counted among
    whole: bool

    @classmethod
    def of(cls, read: Read, maps: Maps | None = None) -> Seen:
        """One reading, in float64; of zeros, in what stood behind it."""
        x = read.by_example(read.x)  # (examples, rest, positions along the axis)
        found = list(_by_chunk(x))
        sums, low = torch.stack([f[0] for f in found]).sum(0), torch.stack([f[1] for f in found]).amin(0)
        high, rows = read.largest.amax(0).to("cpu", torch.float64), x.shape[0] * x.shape[1]
        if maps is None:
            return cls(sums, low, high, rows, low, rows, x.shape[1] > 1)
        zeros, lowest = (read.by_example(t).to("cpu", torch.float64) for t in (maps.zeros, maps.lowest))
        sums[SUMS.index("zeros")] = zeros.sum((0, 1))
        return cls(sums, low, high, rows, lowest.amin((0, 1)), rows * maps.values, True)

    def plus(self, other: Seen) -> Seen:
        """Both."""
        return Seen(
            self.sums + other.sums,
            torch.minimum(self.lowest, other.lowest),
            torch.maximum(self.highest, other.highest),
            self.rows + other.rows,
            torch.minimum(self.floor, other.floor),
            self.places + other.places,
            self.whole and other.whole,
        )

    def by_unit(self, group: str, reader: Reader, weights: Tensor | None) -> Fields:
        """(units,) of each field."""
        index = reader.groups[group]
        fields = dict(zip(SUMS, reader.per_unit(group, self.sums), strict=True))
        norms = self.sums[SUMS.index("square")].sqrt()
        return {
            **fields,
            "zeros": fields["zeros"].round(),  # those of a map, shared out and added up again
            "lowest": self.lowest[index].amin(1),
            "highest": self.highest[index].amax(1),
            "floor": self.floor[index].amin(1),
            "weighted": reader.per_unit(group, torch.zeros_like(norms) if weights is None else weights * norms),
            "count": torch.tensor(self.rows * index.shape[1]),
            "places": torch.tensor(round(self.places * index.shape[1])),
            "whole": torch.tensor(self.whole or index.shape[1] > 1),
            "weighs": torch.tensor(weights is not None),
        }


def _same(x: Tensor, y: Tensor, version: int) -> bool:
    """Whether x is y, unchanged since it had this version; y is held, so that its memory is nobody else's."""
    if x.device != y.device or x.data_ptr() != y.data_ptr():
        return False
    return (x.shape, x.stride(), x._version) == (y.shape, y.stride(), version)


def _by_chunk(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The sums of some examples at a time, in a type that can be summed in."""
    parts = x.split(max(1, CHUNK // max(x.shape[1] * x.shape[2], 1)))
    scratch = torch.empty_like(parts[0], dtype=torch.float32 if x.dtype.itemsize < 4 else x.dtype)
    for part in parts:
        yield _sums(part.to(scratch.dtype), scratch[: len(part)])


def _sums(x: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor]:
    """(5, positions), (positions,) the lowest, both float64, of (examples, rest, positions); scratch is like x."""
    low = x.amin(1).amin(0)  # one axis after the other, which torch does twice as fast as both at once
    signed = bool(low.min() < 0)
    positive = torch.abs(x, out=scratch) if signed else x
    each = positive.sum(1).double()
    absolute, energy = each.sum(0), (each / x.shape[1]).square().sum(0)
    nonzero = torch.sign(positive, out=scratch).sum(1).sum(0)
    square = torch.mul(x, x, out=scratch).sum(1).sum(0)
    zeros = x.shape[0] * x.shape[1] - nonzero.double()
    sums = [zeros, x.sum(1).sum(0) if signed else absolute, absolute, square, energy]
    return torch.stack([s.to("cpu", torch.float64) for s in sums]), low.to("cpu", torch.float64)


def by_position(graph: Graph, contraction: Contraction) -> Tensor | None:
    """(positions, rest) the weights that meet each position of what a layer reads; None if no parameter holds them."""
    name, trace = contraction.weight, graph.trace
    plain = (w for w in trace.writers if w.kind in ("conv", "linear") and not (w.computed or w.viewed))
    uses = [w for w in plain if w.weight == name]
    if name is None or not uses:
        return None
    weight, size = graph.model.get_parameter(name).detach(), contraction.labels.size
    if uses[0].groups > 1 and not uses[0].transposed:  # (O, I / groups, *kernel): each group reads inputs of its own
        weight = weight.unflatten(0, (uses[0].groups, -1)).movedim(2, 1).flatten(0, 1)
        fit = [0] if len(weight) == size else []
    else:
        fit = [a for a in sorted({1 - w.weight_axis for w in uses}) if weight.dim() > 1 and weight.shape[a] == size]
    if len(fit) > 1:  # used both as it is and transposed
        read = trace.classes[contraction.labels]
        fit = [a for a in fit if np.array_equal(trace.classes[trace.tensors[name][a]], read)]
    if len(fit) != 1 or (uses[0].kind == "linear" and weight.dim() != 2):
        return None
    return (weight if weight.dtype.itemsize >= 4 else weight.float()).movedim(fit[0], 0).flatten(1)
