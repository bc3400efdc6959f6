"""Activations: sums over all examples and positions of what layers read of each unit, never the activations."""

from __future__ import annotations

import torch
from torch import Tensor

from ..groups.graph import Graph
from .base import Collector, Fields, Sampling, collector
from .readers import Read


@collector("activations")
class Activations(Collector):
    """Of each group and each layer that reads it, in the order they run, (readers, units):

    sums over examples and positions of `zeros` [x = 0], `sum` x, `absolute` |x|, `square` x^2; `energy`, the sum over
    examples of (mean over positions of |x|)^2; the `lowest` and `highest` x; `count` (readers,) values of a unit seen.
    """

    reads = True
    _SUMS = ("zeros", "sum", "absolute", "square", "energy")

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._held: dict[str, dict[int, tuple[Tensor, Tensor, int]]] = {}

    def read(self, read: Read) -> None:
        """One more."""
        x = read.by_example(read.x)  # (examples, rest, positions along the axis)
        absolute = x.abs()
        mean = absolute.mean(1)
        rows = x.shape[0] * x.shape[1]
        sums = torch.stack(
            [
                rows - torch.count_nonzero(x, dim=(0, 1)),
                x.sum((0, 1)),
                mean.sum(0) * x.shape[1],
                torch.linalg.vector_norm(x, dim=(0, 1)).square(),
                mean.square().sum(0),
            ]
        ).to("cpu", torch.float64)
        ends = torch.stack([x.amin((0, 1)), x.amax((0, 1))]).to("cpu", torch.float64)
        for name, index in read.reader.groups.items():
            each = read.reader.per_unit(name, sums)
            low, high = ends[0][index].amin(1), ends[1][index].amax(1)
            at, held = read.reader.contraction.number, self._held.setdefault(name, {})
            count = rows * index.shape[1]
            if at in held:
                before, (lowest, highest), counted = held[at]
                each, count = each + before, count + counted
                low, high = torch.minimum(low, lowest), torch.maximum(high, highest)
            held[at] = (each, torch.stack([low, high]), count)

    def values(self) -> dict[str, Fields]:
        """By group."""
        found: dict[str, Fields] = {}
        for name, held in self._held.items():
            sums, ends, counts = zip(*(held[number] for number in sorted(held)), strict=True)
            fields = dict(zip(self._SUMS, torch.stack(sums, 1), strict=True))
            lowest, highest = torch.stack(ends, 1)
            found[name] = {**fields, "lowest": lowest, "highest": highest, "count": torch.tensor(counts)}
        return found
