"""Gradients of gates at the layers that read a group, by example: sum over positions of x * dL/dx.

A unit is gone when nothing reads it, so a gate on each reading is the first-order change of the loss by its removal,
wherever activations and norms stand. Examples are told apart, as the average over a batch cannot be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ..groups.graph import Graph
from .base import Collector, Fields, Sampling, collector
from .gradients import gate_parameters, gated
from .readers import Read

CHUNK = 2**19  # products that are held at a time


@collector("example_gradients")
class ExampleGradients(Collector):
    """Of each group, sums over examples of g = dL/dgate, (units,): `square` g^2, `absolute` of g / positions; `count`.

    L is the loss of the example alone, where the loss of a batch is their mean. Of several readers, g is the sum.
    """

    reads = differentiates = True

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        super().__init__(graph, sampling)
        self._sums: dict[str, Tensor] = {}
        self._now: dict[str, Tensor] = {}
        self._count = 0
        self._examples = 0

    def in_turn(self) -> Collection[str]:
        """Any, so that gradients flow to whatever a layer reads."""
        groups, others = gated(self.graph)
        if any(g.sources for g in self.graph.groups if g.name in others):  # weights computed from any parameters
            return [n for n, p in self.graph.model.named_parameters() if p.is_floating_point()]
        return {n for g in groups for s in g.sources for n, _ in gate_parameters(s)}

    def read(self, read: Read) -> None:
        """Wait for the gradient."""
        self._examples = read.examples

        def later(gradient: Tensor) -> None:
            x, g = read.by_example(read.x), read.by_example(gradient)
            step = max(1, CHUNK // max(x.shape[1] * x.shape[2], 1))
            total = torch.cat([(a * b).sum(1) for a, b in zip(x.split(step), g.split(step), strict=True)])
            total = total.to("cpu", torch.float64)
            each = torch.stack([total, total / x.shape[1]])
            for name in read.reader.groups:
                found = read.reader.per_unit(name, each)
                self._now[name] = found if name not in self._now else self._now[name] + found

        if read.x.is_floating_point():
            read.gradient(later)

    def batch(self, gradients: Mapping[str, Tensor | None], held: Mapping[str, Tensor]) -> None:
        """Add up what the backward pass brought."""
        self._count += self._examples
        for name, (total, mean) in self._now.items():
            size = len(total)  # 1 where examples could not be told apart
            sums = torch.stack([(total * size).square().sum(0), (mean * size).abs().sum(0)])
            self._sums[name] = sums if name not in self._sums else self._sums[name] + sums
        self._now = {}

    def values(self) -> dict[str, Fields]:
        """By group."""
        count = torch.tensor(self._count)
        return {n: {"square": s[0], "absolute": s[1], "count": count} for n, s in self._sums.items()}
