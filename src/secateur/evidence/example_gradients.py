"""Gradients of gates by example, which the average over a batch cannot tell apart."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..groups.graph import Graph
from .base import Fields, Sampling, collector
from .gradients import AtReaders
from .readers import Read


@collector("example_gradients")
class ExampleGradients(AtReaders):
    """Of each group, sums over examples of g = dL/dgate, (units,): `square` g^2, `absolute` of g / positions; `count`.

    L is the loss of the example alone, where the loss of a batch is their mean. Of several readers, g is the sum, and
    positions are those of the layer that reads most.
    """

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._sums: dict[str, Tensor] = {}
        self._positions: dict[str, int] = {}
        self._count = 0

    def read(self, read: Read) -> None:
        """Note where examples cannot be told apart, and how many positions a unit has."""
        super().read(read)
        read.tell(self.missing, read.reader.groups)
        for name, index in read.reader.groups.items():
            here = read.positions * index.shape[1]
            self._positions[name] = max(here, self._positions.get(name, 0))

    def batch(self, gradients: Mapping[str, Tensor | None], held: Mapping[str, Tensor]) -> None:
        """Add up what the backward pass brought."""
        self._count += self.examples
        for name, each in self.found().items():
            g = each * self.examples
            sums = torch.stack([g.square().sum(0), g.abs().sum(0) / self._positions[name]])
            self._sums[name] = sums if name not in self._sums else self._sums[name] + sums
        self._positions = {}

    def values(self) -> dict[str, Fields]:
        """By group."""
        count = torch.tensor(self._count)
        kept = {n: s for n, s in self._sums.items() if n not in self.missing}
        return {n: {"square": s[0], "absolute": s[1], "count": count} for n, s in kept.items()}
